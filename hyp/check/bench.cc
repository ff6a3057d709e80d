#include "hyp/check/bench.hh"

#include "hyp/check/bench_count.hh"
#include "hyp/core/console.hh"

namespace cadastre {

void run_benchmarks() {
  if (bench::instructions() == 0) {
    console.print("bench: this CPU does not count instructions: scripts/run.sh --icount makes QEMU's do");
    return;
  }
  bench_allocators();
  bench_tables();
  bench_walk();
}

}  // namespace cadastre
