// How the parts of `bench` count: in instructions of this CPU.
#pragma once

#include <cstdint>
#include <string_view>

#include "arch/armv7/instruction_counter.hh"
#include "hyp/core/console.hh"

namespace cadastre::bench {

using arch::instructions;

template <class Operation>
[[nodiscard]] std::uint32_t cost_of(unsigned times, Operation&& operation) {
  const std::uint32_t before = instructions();
  for (unsigned i = 0; i < times; ++i) {
    operation();
    asm volatile("" : : : "memory");
  }
  return instructions() - before;
}

// Prints `bench: NAME: N instructions`: the mean of `times` runs, without the loop. Of the last of `rounds`: after the
// first of two the lists are filled, the slab is there. Where the operation is run is one place in the code, so that what
// a caller has inline is inline here.
template <class Operation>
void measure(std::string_view name, unsigned times, Operation&& operation, unsigned rounds = 1) {
  const std::uint32_t empty = cost_of(times, [] {});
  std::uint32_t cost = 0;
  for (unsigned round = 0; round < rounds; ++round) cost = cost_of(times, operation) - empty;
  console.print("bench: {}: {} instructions", name, (cost + times / 2) / times);
}

}  // namespace cadastre::bench
