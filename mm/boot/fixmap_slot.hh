// Fixed addresses of HYP's space, for what has to be found before there is anything to allocate from: a slot each, with
// a name and an address that are known when the program is linked.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "mm/base/address.hh"

namespace cadastre {

struct FixmapSlot {
  std::uint32_t start;
  std::uint32_t size;
  // What is mapped keeps its offset within so many bytes, a power of two: kBlockSize where blocks of 2 MiB may be used.
  std::uint32_t granule;

  [[nodiscard]] constexpr std::uint32_t end() const { return start + size; }
  [[nodiscard]] constexpr std::uint32_t address_of(PhysAddr physical) const {
    return start + static_cast<std::uint32_t>(physical.offset_in(granule));
  }
};

// In rising order, none reaching into the next.
[[nodiscard]] constexpr bool are_apart(std::span<const FixmapSlot> slots) {
  return std::ranges::adjacent_find(slots, [](const FixmapSlot& a, const FixmapSlot& b) {
           return a.end() < a.start || b.start < a.end();
         }) == slots.end();
}

}  // namespace cadastre
