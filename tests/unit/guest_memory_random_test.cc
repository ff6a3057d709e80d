#include "tests/model/guest_driver.hh"
#include "tests/unit/random_runs.hh"

namespace cadastre {
namespace {

TEST_CASE("guest memory: one to four guests fault, write, share and end in any order, with requests that fail") {
  run_randomly(random_operations(60'000), 1000, [](const model::Decide& decide, std::uint64_t run) {
    return model::GuestDriver(decide, static_cast<unsigned>(1 + run % 4));
  });
}

}  // namespace
}  // namespace cadastre
