// Stage 2 on the model machine: the input chooses every operation, range, failure and access of a guest's CPU.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>

#include "tests/model/oracle.hh"

namespace cadastre {
namespace {

[[noreturn]] void fail(const std::string& what) {
  std::fputs((what + '\n').c_str(), stderr);
  std::abort();
}

}  // namespace

void check_failed(const char* condition, const char* file, int line) {
  fail(std::string(file) + ':' + std::to_string(line) + ": CHECK failed: " + condition);
}

namespace {

class Choices {
 public:
  explicit Choices(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool is_empty() const { return bytes_.empty(); }
  std::uint64_t operator()(std::uint64_t bound) {
    std::uint64_t value = 0;
    for (std::uint64_t range = 1; range < bound && !bytes_.empty(); range <<= 8) {
      value = value << 8 | bytes_.front();
      bytes_ = bytes_.subspan(1);
    }
    return value % bound;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

}  // namespace
}  // namespace cadastre

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cadastre;
  Choices choices({data, size});
  const unsigned small_level = choices(4) == 0 ? 2 : kLastLevel;
  const auto cpus = static_cast<unsigned>(1 + choices(8));
  model::Oracle oracle([&](std::uint64_t bound) { return choices(bound); }, {small_level}, cpus);
  for (unsigned i = 0; i < 200 && !choices.is_empty(); ++i) {
    try {
      oracle.step();
    } catch (const model::Violation& violation) {
      fail("operation " + std::to_string(i) + ": " + violation.what);
    }
  }
  return 0;
}
