// Slabs with and without their checks, kmalloc and caches: no object overlaps another, none changes while it lives, none is
// lost, and what a user does wrong is found.
#include "tests/fuzz/model_fuzz.hh"
#include "tests/model/slab_driver.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cadastre;
  return run_input({data, size}, 1000, [](const model::Decide& decide) { return model::SlabDriver(decide); });
}
