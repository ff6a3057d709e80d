#include "tests/model/memblock_driver.hh"
#include "tests/unit/random_runs.hh"

namespace cadastre {
namespace {

TEST_CASE("memblock: random operations agree with a model of every KiB") {
  run_randomly(random_operations(1'000'000), 1000,
               [](const model::Decide& decide) { return model::MemblockDriver(decide); });
}

}  // namespace
}  // namespace cadastre
