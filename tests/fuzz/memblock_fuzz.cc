// Memblock against a model of every KiB: the input chooses every operation, range, node and flag.
#include "tests/fuzz/model_fuzz.hh"
#include "tests/model/memblock_driver.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cadastre;
  return run_input({data, size}, 400, [](const model::Decide& decide) { return model::MemblockDriver(decide); });
}
