// Random numbers for self-tests: the same sequence for the same seed.
#pragma once

#include <cstdint>

namespace cadastre {

// xorshift, of period 2^32 - 1.
class Random {
 public:
  explicit Random(std::uint32_t seed) : state_(seed | 1U) {}

  std::uint32_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  std::uint64_t next64() { return std::uint64_t{next()} << 32 | next(); }
  std::uint32_t below(std::uint32_t limit) { return next() % limit; }
  // Once in `n`.
  bool once_in(std::uint32_t n) { return below(n) == 0; }

 private:
  std::uint32_t state_;
};

}  // namespace cadastre
