// `bench` on the command line: what this guest's exits cost, in the machine's own time.
#pragma once

#include <cstdint>

namespace cadastre::guest {

// Prints `bench: NAME: N ns`, a line each: from the guest's instruction before the exit to the one after it. Where the
// machine's clock counts instructions (QEMU's -icount), 1 ns each, that is their number. [first, end) is RAM that nobody has
// touched: whole blocks of 2 MiB, and at its end pages that are no whole block.
void run_benchmarks(std::uint32_t first, std::uint32_t end);

}  // namespace cadastre::guest
