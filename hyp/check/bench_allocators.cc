#include <cstddef>
#include <string_view>

#include "hyp/check/bench.hh"
#include "hyp/check/bench_count.hh"
#include "hyp/core/memory.hh"
#include "mm/base/check.hh"

namespace cadastre {
namespace {

using bench::measure;

constexpr unsigned kPairs = 1000;

template <class Pair>
void measure_pair(std::string_view name, Pair&& pair) {
  measure(name, kPairs, pair, 2);
}

template <unsigned kOrder>
void measure_pages(std::string_view name) {
  measure_pair(name, [] {
    const Result<Pfn> block = memory.pages.alloc(kOrder, kNoWarn);
    if (block) memory.pages.free(*block, kOrder);
  });
}

// What a fault spends on the frame's contents, to be told apart from the rest.
void measure_zeroing(std::string_view name, unsigned order, unsigned times) {
  const Result<Pfn> block = memory.pages.alloc(order, kNoWarn);
  if (!block) return;
  std::byte* bytes = memory.pages.machine().linear(address_of(*block));
  measure(name, times, [=] { std::memset(bytes, 0, kPageSize << order); });
  memory.pages.free(*block, order);
}

}  // namespace

void bench_allocators() {
  measure_pages<0>("page pair, order 0");
  measure_pages<kPageblockOrder>("page pair, order 9");

  constexpr std::size_t kObjectSize = 64;
  const Result<ObjectCache*> cache = memory.slabs.create({.name = "bench", .size = kObjectSize});
  if (!cache) return;
  measure_pair("slab pair, 64 bytes", [&] {
    const Result<void*> object = memory.slabs.alloc(**cache);
    if (object) memory.slabs.free(**cache, *object);
  });
  CHECK(memory.slabs.destroy(**cache));
  measure_pair("kmalloc pair, 64 bytes", [] {
    const Result<void*> bytes = memory.slabs.kmalloc(kObjectSize);
    if (bytes) memory.slabs.kfree(*bytes);
  });

  measure_zeroing("zeroing, page of 4 KiB", 0, kPairs);
  measure_zeroing("zeroing, block of 2 MiB", kPageblockOrder, 1);
}

}  // namespace cadastre
