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
//     IPA  --(stage 2)-->  physical address              each descriptor's address is an IPA too, and goes
//     through stage 2
//
// The order of checks is the architecture's: each fetch (stage 2, external abort), invalid descriptor, access
// flag, domain, permission, then stage 2 of the result [ARMv7 B3.12, B3.13]. Each descriptor is read once.
#pragma once

#include <concepts>
#include <cstdint>
#include <expected>
#include <optional>

#include "mm/access.hh"
#include "mm/address.hh"
#include "mm/descriptor.hh"
#include "mm/guest_fault.hh"
#include "mm/memory_type.hh"
#include "mm/page_table.hh"
#include "mm/stage2_format.hh"

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

  [[nodiscard]] bool stage1_enabled() const { return (sctlr & 1) != 0 && (hcr & kHcrDefaultCacheable) == 0; }
  [[nodiscard]] bool long_format() const { return (ttbcr >> 31) != 0; }

  static constexpr std::uint32_t kSctlrInstructionCache = 1U << 12;
  static constexpr std::uint32_t kSctlrWriteNever = 1U << 19;      // WXN
  static constexpr std::uint32_t kSctlrUserWriteNever = 1U << 20;  // UWXN
  static constexpr std::uint32_t kSctlrBigEndian = 1U << 25;       // EE
  static constexpr std::uint32_t kSctlrTexRemap = 1U << 28;        // TRE
  static constexpr std::uint32_t kSctlrAccessFlag = 1U << 29;      // AFE
  static constexpr std::uint32_t kHcrProtectedWalk = 1U << 2;      // PTW
  static constexpr std::uint32_t kHcrDefaultCacheable = 1U << 12;  // DC
};

// What the walk needs to know of a guest's physical memory: stage 2, and the words behind it.
template <class M>
concept GuestPhysicalMemory = requires(M& memory, IpaAddr ipa, PhysAddr physical) {
  // Stage 2 as the CPU sees it; nothing when the address is not mapped.
  { memory.translate(ipa) } -> std::same_as<std::optional<Mapping<Stage2Attributes>>>;
  // The level at which a lookup of an address that is not mapped ends.
  { memory.fault_level(ipa) } -> std::convertible_to<unsigned>;
  // One access to aligned memory; nothing when there is no RAM.
  { memory.read32(physical) } -> std::same_as<std::optional<std::uint32_t>>;
  { memory.read64(physical) } -> std::same_as<std::optional<std::uint64_t>>;
};

struct Rights {
  bool read = false;
  bool write = false;
  bool execute = false;

  [[nodiscard]] constexpr bool allow(Access access) const {
    return access == Access::kRead ? read : access == Access::kWrite ? write : execute;
  }
  friend constexpr bool operator==(Rights, Rights) = default;
};

// What stage 1 says of an address.
struct Stage1Leaf {
  IpaAddr ipa = {};
  std::uint8_t level = 0;  // 0: the MMU is off
  std::uint8_t shift = 0;  // log2 of the leaf's size
  std::uint8_t domain = 0;
  bool global = true;
  Rights privileged = {};
  Rights user = {};
  MemoryType memory = {};

  [[nodiscard]] const Rights& of(Privilege privilege) const {
    return privilege == Privilege::kUser ? user : privileged;
  }
};

struct GuestTranslation {
  PhysAddr physical;
  Stage1Leaf stage1;
  Stage2Attributes stage2;
  std::uint8_t stage2_level;
  MemoryType memory;  // of both stages

  // Of both stages.
  [[nodiscard]] Rights rights(Privilege privilege) const {
    const Rights& first = stage1.of(privilege);
    return {first.read && stage2.readable(), first.write && stage2.writable(),
            first.execute && stage2.readable() && stage2.executable()};
  }
};

[[nodiscard]] constexpr std::uint64_t par_of(const GuestTranslation& translation) {
  constexpr std::uint64_t kNonSecure = 1U << 9;  // UNKNOWN for a non-secure walk; QEMU's CPUs set it
  return std::uint64_t{translation.memory.mair} << 56 | (translation.physical.value() & kEntryAddressMask) | 1U << 11 |
         kNonSecure | static_cast<std::uint64_t>(translation.memory.shareability) << 7;
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

// The two halves of a walk: stage 1 to an IPA without a look at the rights, and from there on.
template <GuestPhysicalMemory Memory, class Trace = NoTrace>
[[nodiscard]] WalkResult<Stage1Leaf> stage1_walk(const GuestMmu& mmu, Memory& memory, GuestVirtAddr address,
                                                 Access access, Trace&& trace = {});

// The whole: the translation of `address`, or the fault that an access would take. `trace` sees every step of
// stage 1.
template <GuestPhysicalMemory Memory, class Trace = NoTrace>
[[nodiscard]] inline WalkResult<GuestTranslation> guest_walk(const GuestMmu& mmu, Memory& memory, GuestVirtAddr address,
                                                             Access access, Privilege privilege, Trace&& trace = {}) {
  const WalkResult<Stage1Leaf> leaf = stage1_walk(mmu, memory, address, access, trace);
  if (!leaf) [[unlikely]]
    return std::unexpected(leaf.error());
  if (!leaf->of(privilege).allow(access)) [[unlikely]] {
    return std::unexpected(GuestFault{.kind = FaultKind::kPermission, .level = leaf->level, .domain = leaf->domain});
  }
  const std::optional<Mapping<Stage2Attributes>> mapping = memory.translate(leaf->ipa);
  if (!mapping) [[unlikely]] {
    return std::unexpected(GuestFault{.kind = FaultKind::kTranslation,
                                      .level = static_cast<std::uint8_t>(memory.fault_level(leaf->ipa)),
                                      .stage2 = true,
                                      .ipa = leaf->ipa});
  }
  const Stage2Attributes second = mapping->attributes;
  const bool allowed = access == Access::kRead    ? second.readable()
                       : access == Access::kWrite ? second.writable()
                                                  : second.readable() && second.executable();
  if (!allowed) [[unlikely]] {
    return std::unexpected(GuestFault{.kind = FaultKind::kPermission,
                                      .level = static_cast<std::uint8_t>(mapping->level),
                                      .stage2 = true,
                                      .ipa = leaf->ipa});
  }
  return GuestTranslation{mapping->address, *leaf, second, static_cast<std::uint8_t>(mapping->level),
                          combine(leaf->memory, second)};
}

// Calls visitor(GuestVirtAddr, const Stage1Leaf&) for each leaf of stage 1 from `from` on that reaches the
// page at `ipa` with the address that does; looks at about `budget` descriptors and returns where to go on,
// 2^32 at the end. With the frame's owner and guest frame number (or Stage2's visit) for the physical side,
// this answers which virtual addresses reach a physical page.
template <GuestPhysicalMemory Memory, class Visitor>
std::uint64_t find_virtual(const GuestMmu& mmu, Memory& memory, IpaAddr ipa, std::uint64_t from, unsigned budget,
                           Visitor&& visitor);

}  // namespace cadastre

#include "mm/guest_walk_stage1.hh"  // IWYU pragma: export
