// `bench` on the command line: what the memory manager's fast paths cost on this CPU, in instructions.
#pragma once

namespace cadastre {

// Prints `bench: NAME: N instructions`, a line each; nothing but a word of regret where the CPU does not count instructions
// (QEMU does with -icount).
void run_benchmarks();

}  // namespace cadastre
