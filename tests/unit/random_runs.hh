// Random operations in runs, each with a fresh machine and a seed of its own.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <type_traits>

#include "tests/model/choices.hh"
#include "tests/unit/test.hh"

namespace cadastre {

// How many operations a random test does: CADASTRE_OPERATIONS, or what a normal run has the time for. The emulated CPU
// of the cross build is much slower.
inline std::uint64_t random_operations(std::uint64_t normally) {
  if (const char* text = std::getenv("CADASTRE_OPERATIONS"); text != nullptr) return std::strtoull(text, nullptr, 0);
  return sizeof(void*) == 8 ? normally : normally / 40;
}

// `make(decide)` or `make(decide, number of the run)` returns what has `step()`: one operation, which throws Violation
// when it went wrong. At the end of a run it is asked to `finish()`, if it can.
template <class Make>
void run_randomly(std::uint64_t operations, std::uint64_t run_length, Make make) {
  std::mt19937_64 seeds(test_seed());
  for (std::uint64_t done = 0; done < operations; done += run_length) {
    const std::uint64_t seed = seeds();
    std::mt19937_64 random(seed);
    std::uint64_t step = 0;
    try {
      const model::Decide decide = [&](std::uint64_t bound) { return random() % bound; };
      auto run = [&] {
        if constexpr (std::is_invocable_v<Make, model::Decide>) {
          return make(decide);
        } else {
          return make(decide, done / run_length);
        }
      }();
      for (; step < std::min(run_length, operations - done); ++step) run.step();
      if constexpr (requires { run.finish(); }) run.finish();
    } catch (const model::Violation& violation) {
      FAIL("run ", done / run_length, " operation ", step, ": ", violation.what);
    }
  }
}

}  // namespace cadastre
