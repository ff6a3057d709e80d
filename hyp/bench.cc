#include "hyp/bench.hh"

#include <cstdint>
#include <string_view>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "hyp/console.hh"
#include "hyp/memory.hh"
#include "mm/check.hh"

namespace cadastre {
namespace {

constexpr unsigned kIterations = 1000;

// Counter 0, which entry.S has set to INST_RETIRED.
[[nodiscard]] std::uint32_t instructions() {
  arch::PMSELR::write(0);
  arch::isb();
  return arch::PMXEVCNTR::read();
}

template <class Operation>
[[nodiscard]] std::uint32_t cost_of(Operation&& operation) {
  operation();  // the lists are filled, the slab is there
  const std::uint32_t before = instructions();
  for (unsigned i = 0; i < kIterations; ++i) {
    operation();
    asm volatile("" : : : "memory");
  }
  return instructions() - before;
}

template <class Operation>
void measure(std::string_view name, Operation&& operation) {
  static const std::uint32_t empty = cost_of([] {});
  const std::uint32_t cost = cost_of(operation) - empty;
  console.print("bench: {}: {} instructions", name, (cost + kIterations / 2) / kIterations);
}

void measure_pages(std::string_view name, unsigned order) {
  measure(name, [order] {
    const Result<Pfn> block = memory.pages.alloc(order, kNoWarn);
    if (block) memory.pages.free(*block, order);
  });
}

}  // namespace

void run_benchmarks() {
  if (instructions() == 0) {
    console.print("bench: this CPU does not count instructions: scripts/run.sh --icount makes QEMU's do");
    return;
  }
  measure_pages("page alloc+free pair, order 0, from the CPU's list", 0);
  measure_pages("page alloc+free pair, order 9", kPageblockOrder);

  constexpr std::size_t kObjectSize = 64;
  const Result<ObjectCache*> cache = memory.slabs.create({.name = "bench", .size = kObjectSize});
  if (!cache) return;
  measure("slab alloc+free pair, 64 bytes", [&] {
    const Result<void*> object = memory.slabs.alloc(**cache);
    if (object) memory.slabs.free(**cache, *object);
  });
  CHECK(memory.slabs.destroy(**cache));
  measure("kmalloc+kfree pair, 64 bytes", [] {
    const Result<void*> bytes = memory.slabs.kmalloc(kObjectSize);
    if (bytes) memory.slabs.kfree(*bytes);
  });
}

}  // namespace cadastre
