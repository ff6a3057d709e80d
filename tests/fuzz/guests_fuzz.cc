// Guests' memory over a real page allocator: the input chooses the guests, their faults, what they share and what fails.
#include "tests/fuzz/model_fuzz.hh"
#include "tests/model/guest_driver.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cadastre;
  return run_input({data, size}, 150, [](const model::Decide& decide) {
    return model::GuestDriver(decide, static_cast<unsigned>(1 + decide(4)));
  });
}
