// What fuzz targets share that hold the code against a model: the input's bytes are the choices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <span>

#include "tests/model/choices.hh"

namespace cadastre {

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

// `make(decide)` returns what has `step()`, and `finish()` for the end if it likes. At most `most` operations: an input is not to take long.
template <class Make>
int run_input(std::span<const std::uint8_t> bytes, unsigned most, Make make) {
  Choices choices(bytes);
  unsigned step = 0;
  try {
    auto run = make([&](std::uint64_t bound) { return choices(bound); });
    for (; step < most && !choices.is_empty(); ++step) run.step();
    if constexpr (requires { run.finish(); }) run.finish();
  } catch (const model::Violation& violation) {
    std::cerr << "operation " << step << ": " << violation.what << '\n';
    std::abort();
  }
  return 0;
}

}  // namespace cadastre
