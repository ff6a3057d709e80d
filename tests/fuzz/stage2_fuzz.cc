// Stage 2 on the model machine: the input chooses every operation, range, failure and access of a guest's CPU.
#include "tests/fuzz/model_fuzz.hh"
#include "tests/model/oracle.hh"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cadastre;
  return run_input({data, size}, 200, [](const model::Decide& decide) {
    const unsigned small_level = decide(4) == 0 ? 2 : kLastLevel;
    const auto cpus = static_cast<unsigned>(1 + decide(8));
    return model::Oracle(decide, {small_level}, cpus);
  });
}
