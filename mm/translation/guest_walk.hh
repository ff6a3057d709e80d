// The second translation level, in software: what a guest's CPU makes of a virtual address.
//
//   virtual address
//      |   SCTLR.M clear or HCR.DC: as it is
//      |
//      |   TTBCR.EAE 0: short descriptors             TTBCR.EAE 1: long descriptors
//      |     31..20    19..12   11..0                   31 30   29..21   20..12   11..0
//      |     level 1 -> level 2                         level 1 -> level 2 -> level 3
//      |     section,   small or                        1 GiB      2 MiB      page
//      |     supersect. large page
//      v
//     IPA  --(stage 2)-->  physical address          each descriptor's address is an IPA too, and goes through stage 2
//
// The order of checks is the architecture's: each fetch (stage 2, external abort), invalid descriptor, access
// flag, domain, permission, then stage 2 of the result [ARMv7 B3.12, B3.13]. Each descriptor is read once.
#pragma once

#include <concepts>
#include <cstdint>
#include <expected>
#include <optional>

#include "mm/base/access.hh"
#include "mm/base/address.hh"
#include "mm/translation/descriptor.hh"
#include "mm/translation/guest_fault.hh"
#include "mm/translation/memory_type.hh"
#include "mm/translation/page_table.hh"
#include "mm/translation/sctlr.hh"
#include "mm/translation/stage2_format.hh"

namespace cadastre {

// A vCPU's registers that translation depends on.
struct GuestMmu {
  std::uint32_t sctlr = 0;
  std::uint32_t ttbcr = 0;
  std::uint64_t ttbr0 = 0;
  std::uint64_t ttbr1 = 0;
  std::uint32_t dacr = 0;
  std::uint32_t prrr = 0;  // MAIR0
  std::uint32_t nmrr = 0;  // MAIR1
  std::uint32_t hcr = 0;
  // The architecture checks a domain when the last descriptor has been read and its access flag was set
  // [ARMv7 B3.12.3]. Some CPUs (QEMU's) check it as soon as it is known, and no access flag in a domain of
  // managers.
  bool early_domain_check = false;

  [[nodiscard]] bool stage1_enabled() const { return (sctlr & sctlr::kMmu) != 0 && (hcr & kHcrDefaultCacheable) == 0; }
  [[nodiscard]] bool long_format() const { return (ttbcr >> 31) != 0; }

  static constexpr std::uint32_t kHcrProtectedWalk = 1U << 2;      // PTW
  static constexpr std::uint32_t kHcrDefaultCacheable = 1U << 12;  // DC
};

// What the walk needs to know of a guest's physical memory: stage 2, and the words behind it.
template <class M>
concept GuestPhysicalMemory = requires(M& guest, IpaAddr ipa, PhysAddr physical) {
  // Stage 2 as the CPU sees it; nothing when the address is not mapped.
  { guest.translate(ipa) } -> std::same_as<std::optional<Mapping<Stage2Attributes>>>;
  // The level at which a lookup of an address that is not mapped ends.
  { guest.fault_level(ipa) } -> std::convertible_to<unsigned>;
  // One access to aligned memory; nothing when there is no RAM.
  { guest.read32(physical) } -> std::same_as<std::optional<std::uint32_t>>;
  { guest.read64(physical) } -> std::same_as<std::optional<std::uint64_t>>;
};

// Who may do what, a bit for each.
[[nodiscard]] constexpr unsigned right(Privilege privilege, Access access) {
  return 1U << (3 * static_cast<unsigned>(privilege) + static_cast<unsigned>(access));
}
inline constexpr unsigned kAllRights = 0x3f;

// What stage 1 says of an address. Four words, so that a walk hands it on in registers; the memory type stays as the
// descriptor has it until somebody asks (stage1_memory, memory_of), as most only want the address.
struct Stage1Leaf {
  IpaAddr ipa;
  std::uint32_t level : 2 = 0;   // 0: the MMU is off
  std::uint32_t shift : 6 = 0;   // log2 of the leaf's size
  std::uint32_t domain : 4 = 0;  // short descriptors
  std::uint32_t rights : 6 = 0;
  std::uint32_t type : 6 = 0;  // short: S, TEX, C, B; long: SH, AttrIndx; MMU off: 1 for an instruction fetch
  std::uint32_t global : 1 = 1;

  [[nodiscard]] bool allow(Privilege privilege, Access access) const {
    return (rights & right(privilege, access)) != 0;
  }
};
static_assert(sizeof(Stage1Leaf) == 16);

struct GuestTranslation {
  PhysAddr physical;
  Stage1Leaf stage1;
  Stage2Attributes stage2;
  std::uint32_t stage2_level = 0;

  // Of both stages.
  [[nodiscard]] bool allow(Privilege privilege, Access access) const {
    return stage1.allow(privilege, access) && stage2.allow(access);
  }
};

// The memory type of stage 1, and of both stages, with the registers that the walk was done with.
[[nodiscard, gnu::always_inline]] inline MemoryType stage1_memory(const GuestMmu& mmu, const Stage1Leaf& leaf) {
  const unsigned type = leaf.type;
  if (leaf.level == 0) {  // [ARMv7 B3.2.1]
    if ((mmu.hcr & GuestMmu::kHcrDefaultCacheable) != 0) return {kMairWriteBack, Shareability::kNone};
    if (type == 0) return {kMairStronglyOrdered, Shareability::kOuter};
    const bool cached = (mmu.sctlr & sctlr::kInstructionCache) != 0;
    return {cached ? std::uint8_t{0xee} : kMairNonCacheable, Shareability::kOuter};
  }
  if (mmu.long_format()) {
    const std::uint32_t mair = (type & 4) == 0 ? mmu.prrr : mmu.nmrr;
    return {static_cast<std::uint8_t>(mair >> (8 * (type & 3))), static_cast<Shareability>(type >> 3 & 3)};
  }
  const bool shareable = (type & 0x20) != 0;
  if ((mmu.sctlr & sctlr::kTexRemap) != 0) return remapped_memory_type(mmu.prrr, mmu.nmrr, type & 7, shareable);
  return short_memory_type(type >> 2 & 7, type & 3, shareable);
}
[[nodiscard, gnu::always_inline]] inline MemoryType memory_of(const GuestMmu& mmu,
                                                              const GuestTranslation& translation) {
  return combine(stage1_memory(mmu, translation.stage1), translation.stage2);
}

// PAR after a good translation.
[[nodiscard]] inline std::uint64_t par_of(const GuestMmu& mmu, const GuestTranslation& translation) {
  constexpr std::uint64_t kNonSecure = 1U << 9;  // UNKNOWN for a non-secure walk; QEMU's CPUs set it
  const MemoryType type = memory_of(mmu, translation);
  return std::uint64_t{type.mair} << 56 | (translation.physical.value() & kEntryAddressMask) | 1U << 11 | kNonSecure |
         static_cast<std::uint64_t>(type.shareability) << 7;
}

// One descriptor that a walk read.
struct WalkStep {
  unsigned level;
  IpaAddr address;      // of the descriptor
  PhysAddr physical;    // through stage 2
  std::uint64_t entry;  // 32 bits of it in a short descriptor
};

// The default trace, of nothing.
struct NoTrace {
  void operator()(const WalkStep&) const {}
};

template <class T>
using WalkResult = std::expected<T, GuestFault>;

// The translation of `address`, or the fault that an access would take. `trace` sees every step of stage 1.
template <GuestPhysicalMemory Memory, class Trace = NoTrace>
[[nodiscard]] WalkResult<GuestTranslation> guest_walk(const GuestMmu& mmu, Memory& guest, GuestVirtAddr address,
                                                      Access access, Privilege privilege, Trace&& trace = {});

// Stage 1 alone, without a look at the rights.
template <GuestPhysicalMemory Memory, class Trace = NoTrace>
[[nodiscard]] WalkResult<Stage1Leaf> stage1_walk(const GuestMmu& mmu, Memory& guest, GuestVirtAddr address,
                                                 Access access, Trace&& trace = {});

}  // namespace cadastre

#include "mm/translation/guest_walk_stage1.hh"  // IWYU pragma: export
