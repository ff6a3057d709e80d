// Fixed addresses of HYP's space, for what has to be found before there is anything to allocate from: a slot each, with
// a name and an address that are known when the program is linked.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mm/base/address.hh"
#include "mm/base/error.hh"
#include "mm/translation/hyp_table.hh"

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

// Maps [physical, physical + size), rounded outwards to pages, and returns where its first byte is. kOverlap: the slot is
// in use; kOutOfRange: larger than the slot; kInvalid: of size 0; kNoMemory: tables. The table's lock is held.
template <TableEnvironment E>
[[nodiscard]] Result<void*> set_fixmap(HypTable<E>& table, const FixmapSlot& slot, PhysAddr physical,
                                       std::uint64_t size, HypAttributes attributes) {
  if (size == 0) return std::unexpected(Error::kInvalid);
  const PhysAddr first = physical.aligned_down(kPageSize);
  const std::uint32_t address = slot.address_of(first);
  if (size > slot.size || (physical + size).aligned_up(kPageSize) - first > slot.end() - address) {
    return std::unexpected(Error::kOutOfRange);
  }
  if (table.next_mapped(HypVirtAddr(slot.start)) < slot.end()) return std::unexpected(Error::kOverlap);
  const Result<> mapped =
      table.map(HypVirtAddr(address), first, (physical + size).aligned_up(kPageSize) - first, attributes);
  if (!mapped) return std::unexpected(mapped.error());
  return reinterpret_cast<void*>(std::uintptr_t{slot.address_of(physical)});
}

// Unmaps the slot, and has every CPU forget it. The table's lock is held.
template <TableEnvironment E>
void clear_fixmap(HypTable<E>& table, const FixmapSlot& slot) {
  CHECK(table.unmap(HypVirtAddr(slot.start), slot.size));  // the slot is whole leaves: nothing is split
}

}  // namespace cadastre
