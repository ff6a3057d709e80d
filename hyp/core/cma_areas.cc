#include "hyp/core/cma_areas.hh"

#include <array>
#include <cstdint>

#include "hyp/core/console.hh"
#include "hyp/core/memory.hh"

namespace cadastre {
namespace {

std::array<CmaArea, Pools::capacity()> areas;
std::size_t count;

}  // namespace

Result<> init_cma_areas(const Pools& pools, Refusals& refusals) {
  for (const Pool& pool : pools) {
    const auto pages = static_cast<std::uint32_t>(pool.range.size >> kPageShift);
    const std::size_t words = CmaArea::bitmap_words(pages, 0);
    const Result<void*> bitmap = memory.slabs.kmalloc(words * sizeof(std::uint32_t), kZero);
    if (!bitmap) return std::unexpected(bitmap.error());
    if (!areas[count].init(pool.name, memory.pages, frame_of(pool.range.base), pages, 0,
                           std::span(static_cast<std::uint32_t*>(*bitmap), words))) {
      // What the reserver does not see: that NUMA nodes share a section.
      refusals.add("pool {}: {} to {} is not in one zone: move it", pool.name, pool.range.base, pool.range.end());
      continue;
    }
    ++count;
    console.print("cma: {} {} to {}, {} MiB", pool.name, pool.range.base, pool.range.end(), pool.range.size >> 20);
  }
  return {};
}

std::span<CmaArea> cma_areas() {
  return std::span(areas).first(count);
}

}  // namespace cadastre
