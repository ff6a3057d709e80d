#include "tests/model/page_driver.hh"
#include "tests/unit/random_runs.hh"

namespace cadastre {
namespace {

using model::PageDriver;

TEST_CASE("pages: random requests on several CPUs agree with a frame by frame model") {
  run_randomly(random_operations(1'000'000), 5000,
               [](const model::Decide& decide) { return PageDriver(decide, PageDriver::Emphasis::kPages); });
}

TEST_CASE("cma: random guests, devices and exact ranges agree with a frame by frame model") {
  run_randomly(random_operations(1'000'000), 5000,
               [](const model::Decide& decide) { return PageDriver(decide, PageDriver::Emphasis::kRanges); });
}

}  // namespace
}  // namespace cadastre
