#include "hyp/core/cma_areas.hh"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "arch/armv7/cpu.hh"
#include "hyp/core/console.hh"
#include "hyp/core/memory.hh"

namespace cadastre {
namespace {

constexpr std::size_t kMaxAreas = 17;  // /reserved-memory's, and one from the command line

struct Place {
  std::string_view name;
  PhysRange range;
};

InplaceVector<Place, kMaxAreas> places;
std::array<CmaArea, kMaxAreas> areas;

// A place for `size` bytes in one of the ranges, none meaning anywhere that every DMA master reaches.
Result<PhysAddr> place(Memblock& memblock, const ReservedMemory& wanted, std::uint64_t alignment, PhysAddr limit) {
  if (wanted.alloc_ranges.empty()) return memblock.alloc_range(wanted.size, alignment, PhysAddr(0), limit);
  Result<PhysAddr> found = std::unexpected(Error::kNoMemory);
  for (const PhysRange& range : wanted.alloc_ranges) {
    if (!found) found = memblock.alloc_range(wanted.size, alignment, range.base, range.end());
  }
  return found;
}

[[nodiscard]] bool is_cma(const ReservedMemory& reserved) {
  return reserved.is_shared_dma_pool && reserved.reusable;
}

// Whole pageblocks, because an area's pages have a migrate type of their own.
void add_area(std::string_view name, PhysRange range, Refusals& refusals) {
  if (!range.base.is_aligned(kBlockSize) || range.size % kBlockSize != 0) {
    refusals.add("/reserved-memory/{}: {} to {} is not whole blocks of 2 MiB: align its base and size", name,
                 range.base, range.end());
  } else if (!places.push_back({.name = name, .range = range})) {
    refusals.add("/reserved-memory/{}: more than {} areas: leave some out", name, kMaxAreas);
  }
}

void place_from_command_line(const HostDescription& host, const CommandLine& words, Memblock& memblock,
                             Refusals& refusals) {
  const auto text = words.value("cma");
  if (!text) return;
  const auto wanted = parse_placement(*text);
  if (!wanted || wanted->size == 0 || wanted->size % kBlockSize != 0) {
    refusals.add("cma={}: not SIZE[@BASE[-LIMIT]] with a multiple of 2M as SIZE, as in cma=16M@1G-2G", *text);
    return;
  }
  const PhysAddr start(wanted->base.value_or(0));
  // A base without a limit is the very place.
  const PhysAddr end = wanted->limit  ? PhysAddr(*wanted->limit)
                       : wanted->base ? start + wanted->size
                                      : host.zone_dma_limit;
  const Result<PhysAddr> base = memblock.alloc_range(wanted->size, kBlockSize, start, end);
  if (!base) {
    refusals.add("cma={}: no such place is free: ask for less, or for another", *text);
    return;
  }
  add_area("cma", {.base = *base, .size = wanted->size}, refusals);
}

}  // namespace

void place_cma_areas(HostDescription& host, const CommandLine& words, Memblock& memblock, Refusals& refusals) {
  for (ReservedMemory& reserved : host.reserved_memory) {
    if (!reserved.is_placed) {
      const std::uint64_t least = is_cma(reserved) ? kBlockSize : kPageSize;
      const Result<PhysAddr> base = place(memblock, reserved, std::max(reserved.alignment, least), host.zone_dma_limit);
      if (!base) {
        refusals.add("/reserved-memory/{}: no room for {} MiB: make it smaller, or widen alloc-ranges",
                     reserved.name.view(), reserved.size >> 20);
        continue;
      }
      reserved.base = *base;
      reserved.is_placed = true;
      if (reserved.no_map && !memblock.set_flags(*base, reserved.size, MemblockFlags::kNomap)) {
        refusals.add("/reserved-memory/{}: too many regions: leave some out", reserved.name.view());
      }
    }
    if (is_cma(reserved)) {
      add_area(reserved.name.view(), {.base = reserved.base, .size = reserved.size}, refusals);
    }
  }
  place_from_command_line(host, words, memblock, refusals);
}

Result<> init_cma_areas() {
  for (std::size_t i = 0; i < places.size(); ++i) {
    const Place& place = places[i];
    const auto pages = static_cast<std::uint32_t>(place.range.size >> kPageShift);
    const std::size_t words = CmaArea::bitmap_words(pages, 0);
    const Result<void*> bitmap = memory.slabs.kmalloc(words * sizeof(std::uint32_t), kZero);
    if (!bitmap) return std::unexpected(bitmap.error());
    const Result<> made = areas[i].init(place.name, memory.pages, frame_of(place.range.base), pages, 0,
                                        std::span(static_cast<std::uint32_t*>(*bitmap), words));
    if (!made) {
      console.print("cma: {}: {}", place.name, to_string(made.error()));
      return made;
    }
    console.print("cma: {} {} to {}, {} MiB", place.name, place.range.base, place.range.end(), place.range.size >> 20);
  }
  return {};
}

std::span<CmaArea> cma_areas() {
  return std::span(areas).first(places.size());
}

}  // namespace cadastre
