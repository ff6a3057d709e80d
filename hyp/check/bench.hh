// `bench` on the command line: what the memory manager's paths cost on this CPU, in instructions. What exits cost, the guest
// of dts/bench.dts tells: only a guest can take them.
#pragma once

namespace cadastre {

// Prints `bench: NAME: N instructions`, a line each; nothing but a word of regret where the CPU does not count instructions
// (QEMU does with -icount). Before any guest is made.
void run_benchmarks();

// The parts.
void bench_allocators();  // bench_allocators.cc
void bench_tables();      // bench_tables.cc: stage 2, on a scratch guest's tables that no CPU uses
void bench_walk();        // bench_walk.cc: a guest's own tables

}  // namespace cadastre
