// What tests of random operations share: where choices come from, and what is thrown when code and model disagree.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace cadastre::model {

struct Violation {
  std::string what;
};

inline void require(bool condition, const char* what) {
  if (!condition) throw Violation{what};
}

// A random generator, or a fuzzer's bytes. decide(n) is in [0, n).
using Decide = std::function<std::uint64_t(std::uint64_t)>;

}  // namespace cadastre::model
