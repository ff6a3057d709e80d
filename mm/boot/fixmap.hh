// What is mapped at fixed addresses of HYP's space (fixmap_slot.hh).
#pragma once

#include <cstdint>

#include "mm/base/address.hh"
#include "mm/base/check.hh"
#include "mm/base/error.hh"
#include "mm/boot/fixmap_slot.hh"  // IWYU pragma: export
#include "mm/translation/hyp_table.hh"

namespace cadastre {

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
