// The page allocator with its users, exact ranges and a CMA area against a frame by frame model; then its audit.
#include "tests/fuzz/model_fuzz.hh"
#include "tests/model/page_driver.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cadastre;
  return run_input({data, size}, 500, [](const model::Decide& decide) {
    return model::PageDriver(decide, model::PageDriver::Emphasis::kRanges);
  });
}
