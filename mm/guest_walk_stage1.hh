// Stage 1 of a guest's walk, in both formats. Included by guest_walk.hh, at its end.
#pragma once

#include <array>
#include <bit>

namespace cadastre::walk {

// Reads one descriptor through stage 2: a fetch needs to be mapped and readable there, and with HCR.PTW to be
// Normal memory [ARMv7 B3.6, B4.1 HCR].
template <class Word, class Memory, class Trace>
[[nodiscard]] inline WalkResult<Word> fetch(const GuestMmu& mmu, Memory& memory, IpaAddr address, unsigned level,
                                            Trace& trace) {
  const auto fault = [&](FaultKind kind, unsigned at_level, bool stage2) {
    return std::unexpected(GuestFault{.kind = kind,
                                      .level = static_cast<std::uint8_t>(at_level),
                                      .stage2 = stage2,
                                      .on_walk = stage2,
                                      .ipa = stage2 ? address : IpaAddr()});
  };
  const std::optional<Mapping<Stage2Attributes>> mapping = memory.translate(address);
  if (!mapping) [[unlikely]]
    return fault(FaultKind::kTranslation, memory.fault_level(address), true);
  const Stage2Attributes attributes = mapping->attributes;
  if (!attributes.readable() ||
      ((mmu.hcr & GuestMmu::kHcrProtectedWalk) != 0 && static_cast<unsigned>(attributes.memory()) < 4)) [[unlikely]] {
    return fault(FaultKind::kPermission, mapping->level, true);
  }
  std::optional<Word> word;
  if constexpr (sizeof(Word) == 4) {
    word = memory.read32(mapping->address);
  } else {
    word = memory.read64(mapping->address);
  }
  if (!word) [[unlikely]]
    return fault(FaultKind::kExternalOnWalk, level, false);
  const Word entry = (mmu.sctlr & GuestMmu::kSctlrBigEndian) != 0 ? std::byteswap(*word) : *word;
  trace(WalkStep{level, address, mapping->address, entry});
  return entry;
}

inline constexpr unsigned kCanRead = 1;
inline constexpr unsigned kCanWrite = 2;

// Rights from what may be read and written at PL1 and PL0, and who may not execute [ARMv7 B3.7.2]: execution
// needs the right to read; WXN takes it from what is writable, UWXN from PL1 for what PL0 may write.
inline void set_rights(const GuestMmu& mmu, Stage1Leaf& leaf, unsigned privileged, unsigned user, bool execute_never,
                       bool privileged_execute_never) {
  const bool write_never = (mmu.sctlr & GuestMmu::kSctlrWriteNever) != 0;
  const bool user_write_never = (mmu.sctlr & GuestMmu::kSctlrUserWriteNever) != 0;
  leaf.privileged.read = (privileged & kCanRead) != 0;
  leaf.privileged.write = (privileged & kCanWrite) != 0;
  leaf.privileged.execute = leaf.privileged.read && !execute_never && !privileged_execute_never &&
                            !(write_never && leaf.privileged.write) && !(user_write_never && (user & kCanWrite) != 0);
  leaf.user.read = (user & kCanRead) != 0;
  leaf.user.write = (user & kCanWrite) != 0;
  leaf.user.execute = leaf.user.read && !execute_never && !(write_never && leaf.user.write);
}

// ---- MMU off: the address as it is, all rights [ARMv7 B3.2.1].
inline Stage1Leaf flat(const GuestMmu& mmu, GuestVirtAddr address, Access access) {
  constexpr Rights kAll{true, true, true};
  Stage1Leaf leaf{.ipa = IpaAddr(address.value()), .level = 0, .shift = 32, .privileged = kAll, .user = kAll};
  if ((mmu.hcr & GuestMmu::kHcrDefaultCacheable) != 0) {
    leaf.memory = {kMairWriteBack, Shareability::kNone};
  } else if (access == Access::kExecute) {
    const bool cached = (mmu.sctlr & GuestMmu::kSctlrInstructionCache) != 0;
    leaf.memory = {cached ? std::uint8_t{0xee} : kMairNonCacheable, Shareability::kOuter};
  }
  return leaf;
}

// ---- Short descriptors [ARMv7 B3.5.1]
//
//           31        20 19 18 17 16 15 14 12 11 10 9 8    5 4  3 2 1 0
// section   | base      |NS|0 |nG|S |A2|TEX  |AP   |0|domain|XN|C|B|1|PXN|
// supersec. | 31..24, 35..32 |1 |nG|S |A2|TEX|AP   |0|39..36|XN|C|B|1|PXN|
// table     | base 31..10                          |0|domain|0|NS|PXN|0 1|
//           31      16 15 14 12 11 10 9 8 6 5 4 3 2 1 0
// large page| base    |XN|TEX  |nG|S |A2|0 0 0|AP|C|B|0 1|
// small page| base 31..12      |nG|S |A2|TEX  |AP|C|B|1|XN|

// By AP[2:0]: who may read and write. 100 is reserved and lets nobody in.
inline constexpr std::array<std::uint8_t, 8> kApPrivileged = {0, 3, 3, 3, 0, 1, 1, 1};
inline constexpr std::array<std::uint8_t, 8> kApUser = {0, 0, 1, 3, 0, 0, 1, 1};
// With SCTLR.AFE, and in long descriptors, by AP[2:1]: bit 0 lets PL0 in, bit 1 makes it read-only.
[[nodiscard]] constexpr unsigned simple_privileged(unsigned ap) {
  return (ap & 2) != 0 ? 1 : 3;
}
[[nodiscard]] constexpr unsigned simple_user(unsigned ap) {
  return (ap & 1) != 0 ? simple_privileged(ap) : 0;
}

struct ShortFields {
  unsigned ap;
  unsigned tex;
  unsigned cb;
  bool shareable;
  bool execute_never;
  bool privileged_execute_never;
};

// Access flag, domain, rights and memory type of a leaf whose address and size are known.
[[nodiscard]] inline WalkResult<Stage1Leaf> finish_short(const GuestMmu& mmu, Stage1Leaf leaf,
                                                         const ShortFields& fields) {
  const auto fault = [&](FaultKind kind) {
    return std::unexpected(GuestFault{.kind = kind, .level = leaf.level, .domain = leaf.domain});
  };
  const bool access_flag = (mmu.sctlr & GuestMmu::kSctlrAccessFlag) != 0;
  const unsigned domain = mmu.dacr >> (2 * leaf.domain) & 3;
  constexpr unsigned kManager = 3;
  if (mmu.early_domain_check && (domain & 1) == 0) [[unlikely]]
    return fault(FaultKind::kDomain);
  if (access_flag && (fields.ap & 1) == 0 && !(mmu.early_domain_check && domain == kManager)) [[unlikely]] {
    return fault(FaultKind::kAccessFlag);
  }
  if ((domain & 1) == 0) [[unlikely]]
    return fault(FaultKind::kDomain);
  if (domain == kManager) {
    leaf.privileged = leaf.user = Rights{true, true, true};
  } else if (access_flag) {
    set_rights(mmu, leaf, simple_privileged(fields.ap >> 1), simple_user(fields.ap >> 1), fields.execute_never,
               fields.privileged_execute_never);
  } else {
    set_rights(mmu, leaf, kApPrivileged[fields.ap], kApUser[fields.ap], fields.execute_never,
               fields.privileged_execute_never);
  }
  leaf.memory = (mmu.sctlr & GuestMmu::kSctlrTexRemap) != 0
                    ? remapped_memory_type(mmu.prrr, mmu.nmrr, fields.tex, fields.cb, fields.shareable)
                    : short_memory_type(fields.tex, fields.cb, fields.shareable);
  return leaf;
}

[[nodiscard]] inline WalkResult<Stage1Leaf> short_section(const GuestMmu& mmu, std::uint32_t va, std::uint32_t entry) {
  Stage1Leaf leaf;
  leaf.level = 1;
  leaf.global = (entry >> 17 & 1) == 0;
  if ((entry >> 18 & 1) != 0) {
    leaf.shift = 24;
    const std::uint64_t high = std::uint64_t{entry >> 20 & 0xf} << 32 | std::uint64_t{entry >> 5 & 0xf} << 36;
    leaf.ipa = IpaAddr(high | (entry & 0xff00'0000) | (va & 0x00ff'ffff));
  } else {
    leaf.shift = 20;
    leaf.domain = entry >> 5 & 0xf;
    leaf.ipa = IpaAddr((entry & 0xfff0'0000) | (va & 0x000f'ffff));
  }
  return finish_short(mmu, leaf,
                      {.ap = (entry >> 10 & 3) | (entry >> 13 & 4),
                       .tex = entry >> 12 & 7,
                       .cb = entry >> 2 & 3,
                       .shareable = (entry >> 16 & 1) != 0,
                       .execute_never = (entry >> 4 & 1) != 0,
                       .privileged_execute_never = (entry & 1) != 0});
}

[[nodiscard]] inline WalkResult<Stage1Leaf> short_page(const GuestMmu& mmu, std::uint32_t va, std::uint32_t table,
                                                       std::uint32_t entry) {
  Stage1Leaf leaf;
  leaf.level = 2;
  leaf.domain = table >> 5 & 0xf;
  leaf.global = (entry >> 11 & 1) == 0;
  const bool small = (entry & 2) != 0;
  leaf.shift = small ? 12 : 16;
  const std::uint32_t offset = (1U << leaf.shift) - 1;
  leaf.ipa = IpaAddr((entry & ~offset) | (va & offset));
  return finish_short(mmu, leaf,
                      {.ap = (entry >> 4 & 3) | (entry >> 7 & 4),
                       .tex = (small ? entry >> 6 : entry >> 12) & 7,
                       .cb = entry >> 2 & 3,
                       .shareable = (entry >> 10 & 1) != 0,
                       .execute_never = (small ? entry & 1 : entry >> 15 & 1) != 0,
                       .privileged_execute_never = (table >> 2 & 1) != 0});
}

template <class Memory, class Trace>
[[nodiscard]] inline WalkResult<Stage1Leaf> short_walk(const GuestMmu& mmu, Memory& memory, std::uint32_t va,
                                                       Trace& trace) {
  // TTBR0 for addresses whose top N bits are zero, with a table that is shorter for it; else TTBR1 [ARMv7
  // B3.5.4].
  const unsigned n = mmu.ttbcr & 7;
  const bool second = n != 0 && va >> (32 - n) != 0;
  if ((mmu.ttbcr >> (second ? 5 : 4) & 1) != 0) return std::unexpected(GuestFault{});  // PD1, PD0
  const unsigned bits = second ? 14 : 14 - n;
  const auto base = static_cast<std::uint32_t>(second ? mmu.ttbr1 : mmu.ttbr0);
  const std::uint32_t mask = (1U << bits) - 1;
  const IpaAddr first_address((base & ~mask) | ((va >> 18) & mask & ~3U));
  const WalkResult<std::uint32_t> first = fetch<std::uint32_t>(mmu, memory, first_address, 1, trace);
  if (!first) [[unlikely]]
    return std::unexpected(first.error());
  const std::uint32_t entry = *first;
  if ((entry & 3) == 0) return std::unexpected(GuestFault{});
  if ((entry & 2) != 0) return short_section(mmu, va, entry);

  const std::uint8_t domain = entry >> 5 & 0xf;
  if (mmu.early_domain_check && (mmu.dacr >> (2 * domain) & 1) == 0) {
    return std::unexpected(GuestFault{.kind = FaultKind::kDomain, .level = 2, .domain = domain});
  }
  const IpaAddr second_address((entry & ~0x3ffU) | ((va >> 10) & 0x3fc));
  const WalkResult<std::uint32_t> page = fetch<std::uint32_t>(mmu, memory, second_address, 2, trace);
  if (!page) [[unlikely]] {
    GuestFault fault = page.error();
    fault.domain = domain;
    return std::unexpected(fault);
  }
  if ((*page & 3) == 0) return std::unexpected(GuestFault{.level = 2, .domain = domain});
  return short_page(mmu, va, entry, *page);
}

// ---- Long descriptors [ARMv7 B3.6]; mm/descriptor.hh has the picture.

// Which half of the address space, and how many bits of address its tables translate [ARMv7 B3.6.5].
struct LongHalf {
  bool second;
  unsigned bits;
};
[[nodiscard]] inline std::optional<LongHalf> long_half(std::uint32_t ttbcr, std::uint32_t va) {
  const unsigned size0 = ttbcr & 7;
  const unsigned size1 = ttbcr >> 16 & 7;
  const bool in_first = size0 == 0 || va >> (32 - size0) == 0;
  const bool in_second = size1 == 0 ? !in_first : ~va >> (32 - size1) == 0;
  if (in_second) return LongHalf{true, 32 - size1};
  if (in_first) return LongHalf{false, 32 - size0};
  return std::nullopt;
}

[[nodiscard]] inline WalkResult<Stage1Leaf> long_leaf(const GuestMmu& mmu, std::uint32_t va, unsigned level,
                                                      std::uint64_t entry, unsigned table_attributes) {
  if ((entry & kAccessFlag) == 0) {
    return std::unexpected(GuestFault{.kind = FaultKind::kAccessFlag, .level = static_cast<std::uint8_t>(level)});
  }
  Stage1Leaf leaf;
  leaf.level = static_cast<std::uint8_t>(level);
  leaf.shift = static_cast<std::uint8_t>(level_shift(level));
  const std::uint64_t offset = level_size(level) - 1;
  leaf.ipa = IpaAddr((entry & kEntryAddressMask & ~offset) | (va & offset));
  leaf.global = (entry >> 11 & 1) == 0;
  // Tables above can only take rights away: PXNTable, XNTable, APTable[0] (no PL0), APTable[1] (no writes).
  auto ap = static_cast<unsigned>(entry >> 6 & 3);
  if ((table_attributes & 4) != 0) ap &= ~1U;
  if ((table_attributes & 8) != 0) ap |= 2;
  set_rights(mmu, leaf, simple_privileged(ap), simple_user(ap),
             (entry & kExecuteNever) != 0 || (table_attributes & 2) != 0,
             (entry >> 53 & 1) != 0 || (table_attributes & 1) != 0);
  const auto index = static_cast<unsigned>(entry >> 2 & 7);
  leaf.memory.mair = static_cast<std::uint8_t>((index < 4 ? mmu.prrr : mmu.nmrr) >> (8 * (index & 3)));
  leaf.memory.shareability = static_cast<Shareability>(entry >> kShareabilityShift & 3);
  return leaf;
}

template <class Memory, class Trace>
[[nodiscard]] inline WalkResult<Stage1Leaf> long_walk(const GuestMmu& mmu, Memory& memory, std::uint32_t va,
                                                      Trace& trace) {
  const std::optional<LongHalf> half = long_half(mmu.ttbcr, va);
  if (!half || (mmu.ttbcr >> (half->second ? 23 : 7) & 1) != 0) return std::unexpected(GuestFault{});  // EPD1, EPD0
  // A space of at most 1 GiB starts at level 2. The first table is as long as the addresses are.
  unsigned level = half->bits > 30 ? 1 : 2;
  const std::uint64_t entries = std::uint64_t{1} << (half->bits - level_shift(level));
  std::uint64_t table =
      (half->second ? mmu.ttbr1 : mmu.ttbr0) & ((std::uint64_t{1} << kPhysBits) - 1) & ~(entries * 8 - 1);
  std::uint64_t index = va >> level_shift(level) & (entries - 1);
  unsigned table_attributes = 0;
  for (;; ++level) {
    const WalkResult<std::uint64_t> entry = fetch<std::uint64_t>(mmu, memory, IpaAddr(table + index * 8), level, trace);
    if (!entry) [[unlikely]]
      return std::unexpected(entry.error());
    const unsigned type = *entry & kEntryTypeMask;
    if ((type & 1) == 0 || (level == kLastLevel && type == 1)) {
      return std::unexpected(GuestFault{.level = static_cast<std::uint8_t>(level)});
    }
    if (type == 1 || level == kLastLevel) return long_leaf(mmu, va, level, *entry, table_attributes);
    table_attributes |= static_cast<unsigned>(*entry >> 59) & 0xf;
    table = *entry & kEntryAddressMask;
    index = va >> level_shift(level + 1) & (kEntriesPerTable - 1);
  }
}

// log2 of the part around an address that a walk cannot get into for the same reason, at least.
[[nodiscard]] inline unsigned unreachable_shift(const GuestMmu& mmu, const GuestFault& fault) {
  if (!mmu.long_format()) return fault.stage2 || fault.level == 1 ? 20 : kPageShift;
  if (fault.stage2) return level_shift(2);  // a whole table
  // At level 1 it may be TTBCR's doing, and its borders are multiples of 32 MiB.
  return fault.level == 1 ? 25 : level_shift(fault.level);
}

}  // namespace cadastre::walk

namespace cadastre {

template <GuestPhysicalMemory Memory, class Trace>
WalkResult<Stage1Leaf> stage1_walk(const GuestMmu& mmu, Memory& memory, GuestVirtAddr address, Access access,
                                   Trace&& trace) {
  if (!mmu.stage1_enabled()) return walk::flat(mmu, address, access);
  return mmu.long_format() ? walk::long_walk(mmu, memory, address.value(), trace)
                           : walk::short_walk(mmu, memory, address.value(), trace);
}

template <GuestPhysicalMemory Memory, class Visitor>
std::uint64_t find_virtual(const GuestMmu& mmu, Memory& memory, IpaAddr ipa, std::uint64_t from, unsigned budget,
                           Visitor&& visitor) {
  constexpr std::uint64_t kEnd = std::uint64_t{1} << 32;
  std::uint64_t at = from;
  while (at < kEnd && budget-- != 0) {
    const GuestVirtAddr address(static_cast<std::uint32_t>(at));
    const WalkResult<Stage1Leaf> leaf = stage1_walk(mmu, memory, address, Access::kRead);
    unsigned shift = 0;
    if (leaf) {
      shift = leaf->shift;
      const std::uint64_t base = leaf->ipa.value() >> shift << shift;
      const std::uint64_t page = ipa.aligned_down(kPageSize).value();
      const std::uint64_t first = at >> shift << shift;
      if (page - base < std::uint64_t{1} << shift && first + (page - base) >= at) {
        visitor(GuestVirtAddr(static_cast<std::uint32_t>(first + (page - base))), *leaf);
      }
    } else {
      shift = walk::unreachable_shift(mmu, leaf.error());
    }
    at = ((at >> shift) + 1) << shift;
  }
  return at;
}

}  // namespace cadastre
