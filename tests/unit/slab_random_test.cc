#include "tests/model/slab_driver.hh"
#include "tests/unit/random_runs.hh"

namespace cadastre {
namespace {

TEST_CASE("slab: random users on several CPUs: no object is given out twice, none changes while it lives") {
  run_randomly(random_operations(1'000'000), 5000,
               [](const model::Decide& decide) { return model::SlabDriver(decide); });
}

}  // namespace
}  // namespace cadastre
