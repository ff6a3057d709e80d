// All of a guest's address space: what is mapped in it, and which of its addresses reach a page.
//
//   guest virtual   |--- leaf ---|   |-leaf-|      |--- leaf ---|        each descriptor by a walk of its own; what no
//                     |                 |              |   |             walk gets into is passed over by the table
//   IPA             |-----------------------|    |------------|
//                             |                     |
//   physical              the page              the page                 stage 2 in as few steps as its leaves and those
//                                                                        of stage 1 allow
//
// What is mapped does not depend on what may be accessed just now: a domain that DACR shuts (as Linux does with its users' while
// it is in the kernel) hides nothing here. A leaf says which domain it is in, and its rights are those of a client.
//
// Everything here goes in bounded steps: it looks at about `budget` descriptors and holes from the address `from` on, a multiple
// of 4 KiB, and returns where to go on, 2^32 at the end. What the guest changes between two steps may be missed.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mm/translation/guest_walk.hh"

namespace cadastre {

inline constexpr std::uint64_t kGuestVirtualEnd = std::uint64_t{1} << 32;

// log2 of the part around an address that a walk cannot get into for the same reason, at least.
[[nodiscard]] inline unsigned unreachable_shift(const GuestMmu& mmu, const GuestFault& fault) {
  if (!mmu.long_format()) return fault.stage2 || fault.level == 1 ? 20 : kPageShift;
  if (fault.stage2) return level_shift(2);  // a whole table
  // At level 1 it may be TTBCR's doing, and its borders are multiples of 32 MiB.
  return fault.level == 1 ? 25 : level_shift(fault.level);
}

// log2 of what the descriptor of a leaf is good for. Large pages and supersections are sixteen descriptors, which need not be
// alike unless the guest does as it should [ARMv7 B3.5.2].
[[nodiscard]] inline unsigned descriptor_shift(const GuestMmu& mmu, const Stage1Leaf& leaf) {
  if (mmu.long_format() || leaf.level == 0) return leaf.shift;
  return leaf.level == 1 ? 20 : kPageShift;
}

// The same tables, read by a client of every domain.
[[nodiscard]] inline GuestMmu as_client(GuestMmu mmu) {
  constexpr std::uint32_t kClientOfAll = 0x5555'5555;  // two bits a domain, 0b01 [ARMv7 B4.1.43]
  mmu.dacr = kClientOfAll;
  return mmu;
}

// step(address, leaf, end), for the part of each descriptor that is not before `from`, returns where to go on.
template <GuestPhysicalMemory Memory, class Step>
std::uint64_t for_each_leaf(const GuestMmu& mmu, Memory& guest, std::uint64_t from, unsigned budget, Step&& step) {
  const GuestMmu client = as_client(mmu);
  std::uint64_t at = from;
  for (; at < kGuestVirtualEnd && budget != 0; --budget) {
    const auto leaf = stage1_walk(client, guest, GuestVirtAddr(static_cast<std::uint32_t>(at)), Access::kRead);
    const unsigned shift = leaf ? descriptor_shift(mmu, *leaf) : unreachable_shift(mmu, leaf.error());
    const std::uint64_t end = ((at >> shift) + 1) << shift;
    at = leaf ? step(at, *leaf, end) : end;
  }
  return at;
}

// Calls visitor(GuestVirtAddr, const Stage1Leaf&) for each descriptor of stage 1 that maps something: its first address (or
// `from`), and what a walk makes of that.
template <GuestPhysicalMemory Memory, class Visitor>
std::uint64_t visit_stage1(const GuestMmu& mmu, Memory& guest, std::uint64_t from, unsigned budget, Visitor&& visitor) {
  return for_each_leaf(mmu, guest, from, budget, [&](std::uint64_t at, const Stage1Leaf& leaf, std::uint64_t end) {
    visitor(GuestVirtAddr(static_cast<std::uint32_t>(at)), leaf);
    return end;
  });
}

// Calls visitor(GuestVirtAddr, const Stage1Leaf&) for each address that stage 1 leads to the page at `ipa`, with the leaf
// that does.
template <GuestPhysicalMemory Memory, class Visitor>
std::uint64_t find_virtual(const GuestMmu& mmu, Memory& guest, IpaAddr ipa, std::uint64_t from, unsigned budget,
                           Visitor&& visitor) {
  const IpaAddr page = ipa.aligned_down(kPageSize);
  return for_each_leaf(mmu, guest, from, budget, [&](std::uint64_t at, const Stage1Leaf& leaf, std::uint64_t end) {
    const std::uint64_t offset = page - leaf.ipa;
    if (offset < end - at) visitor(GuestVirtAddr(static_cast<std::uint32_t>(at + offset)), leaf);
    return end;
  });
}

// The same for the physical page at `physical`, through both stages: by whichever IPA, by several if it is shared.
template <GuestPhysicalMemory Memory, class Visitor>
std::uint64_t find_virtual(const GuestMmu& mmu, Memory& guest, PhysAddr physical, std::uint64_t from, unsigned budget,
                           Visitor&& visitor) {
  const PhysAddr page = physical.aligned_down(kPageSize);
  return for_each_leaf(mmu, guest, from, budget, [&](std::uint64_t at, const Stage1Leaf& leaf, std::uint64_t end) {
    // As far as one leaf, or one hole, of stage 2 reaches.
    const auto mapping = guest.translate(leaf.ipa);
    const std::uint64_t step = level_size(mapping ? mapping->level : guest.fault_level(leaf.ipa));
    end = std::min(end, at + (step - leaf.ipa.offset_in(step)));
    if (!mapping) return end;
    const std::uint64_t offset = page - mapping->address;
    if (offset < end - at) visitor(GuestVirtAddr(static_cast<std::uint32_t>(at + offset)), leaf);
    return end;
  });
}

}  // namespace cadastre
