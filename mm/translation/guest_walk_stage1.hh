// GuestWalk's two formats of stage 1. Included by guest_walk.hh, at its end.
//
// A walk is one object, whose functions inline into one another, so that its state lives in registers and no result is
// copied from level to level. Each returns kGood, or what failed, in one word.
#pragma once

#include <array>
#include <bit>

namespace cadastre {

template <class Memory, class Trace>
class GuestWalker {
 public:
  using Outcome = std::uint32_t;
  static constexpr Outcome kGood = 0;

  GuestWalker(const GuestMmu& mmu, Memory& guest, Trace& trace) : mmu_(mmu), guest_(guest), trace_(trace) {}

  // Good: leaf() is what stage 1 says.
  [[nodiscard, gnu::always_inline]] Outcome stage1(std::uint32_t va, Access access) {
    if (!mmu_.stage1_enabled()) [[unlikely]]
      return flat(va, access);
    return mmu_.long_format() ? long_walk(va) : short_walk(va);
  }
  [[nodiscard, gnu::always_inline]] Outcome permit(Access access, Privilege privilege) const {
    return leaf_.allow(privilege, access) ? kGood : failed(FaultKind::kPermission, leaf_.level);
  }
  // Good: `result` has what stage 2 makes of it, and that grants `access`.
  [[nodiscard, gnu::always_inline]] Outcome stage2(Access access, GuestTranslation& result) {
    const std::optional<Mapping<Stage2Attributes>> mapping = guest_.translate(leaf_.ipa);
    if (!mapping) [[unlikely]] {
      return failed_stage2(FaultKind::kTranslation, guest_.fault_level(leaf_.ipa), leaf_.ipa, 0);
    }
    if (!mapping->attributes.allow(access)) [[unlikely]] {
      return failed_stage2(FaultKind::kPermission, mapping->level, leaf_.ipa, 0);
    }
    result = {mapping->address, leaf_, mapping->attributes, mapping->level};
    return kGood;
  }

  [[nodiscard]] const Stage1Leaf& leaf() const { return leaf_; }
  // What an outcome that is not good says.
  [[nodiscard]] GuestFault fault(Outcome outcome) const {
    const bool second = (outcome & kStage2) != 0;
    return {.kind = static_cast<FaultKind>(outcome & 0xf),
            .level = static_cast<std::uint8_t>(outcome >> 4 & 3),
            .domain = static_cast<std::uint8_t>(outcome >> 8 & 0xf),
            .stage2 = second,
            .on_walk = (outcome & kOnWalk) != 0,
            .walk_level = static_cast<std::uint8_t>(outcome >> 6 & 3),
            .ipa = second ? failed_ipa_ : IpaAddr()};
  }

 private:
  // ---- Failing

  static constexpr Outcome kFailed = 1U << 31;
  static constexpr Outcome kStage2 = 1U << 30;
  static constexpr Outcome kOnWalk = 1U << 29;

  [[nodiscard]] Outcome failed(FaultKind kind, unsigned level) const {
    return kFailed | domain_ << 8 | level << 4 | static_cast<unsigned>(kind);
  }
  // `walk_level`: of the descriptor that was to be fetched, 0 when it was not on a walk.
  [[nodiscard]] Outcome failed_stage2(FaultKind kind, unsigned level, IpaAddr ipa, unsigned walk_level) {
    failed_ipa_ = ipa;
    return kFailed | kStage2 | (walk_level != 0 ? kOnWalk | walk_level << 6 | domain_ << 8 : 0) | level << 4 |
           static_cast<unsigned>(kind);
  }

  // ---- One descriptor, through stage 2: mapped and readable there, and with HCR.PTW Normal memory [ARMv7 B4.1, HCR].
  template <class Word>
  [[nodiscard, gnu::always_inline]] Outcome fetch(IpaAddr address, unsigned level, Word& entry) {
    const std::optional<Mapping<Stage2Attributes>> mapping = guest_.translate(address);
    if (!mapping) [[unlikely]]
      return failed_stage2(FaultKind::kTranslation, guest_.fault_level(address), address, level);
    const Stage2Attributes attributes = mapping->attributes;
    if (!attributes.readable()) [[unlikely]] {
      return failed_stage2(FaultKind::kPermission, mapping->level, address, level);
    }
    if ((mmu_.hcr & GuestMmu::kHcrProtectedWalk) != 0 && attributes.is_device()) [[unlikely]] {
      return failed_stage2(FaultKind::kPermission, mapping->level, address, level);
    }
    std::optional<Word> word;
    if constexpr (sizeof(Word) == 4) {
      word = guest_.read32(mapping->address);
    } else {
      word = guest_.read64(mapping->address);
    }
    if (!word) [[unlikely]]
      return failed(FaultKind::kExternalOnWalk, level);
    entry = *word;
    if ((mmu_.sctlr & sctlr::kExceptionEndian) != 0) [[unlikely]]
      entry = std::byteswap(entry);
    trace_(WalkStep{level, address, mapping->address, entry});
    return kGood;
  }

  // ---- Rights [ARMv7 B3.7.1, B3.7.2]

  static constexpr unsigned kUserExecute = right(Privilege::kUser, Access::kExecute);
  static constexpr unsigned kPrivilegedExecute = right(Privilege::kPrivileged, Access::kExecute);
  static constexpr unsigned kUserWrite = right(Privilege::kUser, Access::kWrite);
  static constexpr unsigned kPrivilegedWrite = right(Privilege::kPrivileged, Access::kWrite);

  // By AP[2:0], XN, PXN; AP 100 is reserved and lets nobody in. What may be read may be executed, unless something forbids
  // it. With an access flag in AP[0], and in long descriptors, AP[2:1] means what it means here with AP[0] set.
  static constexpr unsigned kXn = 1U << 3;
  static constexpr unsigned kPxn = 1U << 4;
  static constexpr std::array<std::uint8_t, 32> kRights = [] {
    constexpr unsigned kUserRead = right(Privilege::kUser, Access::kRead) | kUserExecute;
    constexpr unsigned kRead = right(Privilege::kPrivileged, Access::kRead) | kPrivilegedExecute;
    constexpr unsigned kWrite = kRead | kPrivilegedWrite;
    constexpr std::array<unsigned, 8> kByAp{0, kWrite, kWrite | kUserRead, kWrite | kUserRead | kUserWrite,
                                            0, kRead,  kRead | kUserRead,  kRead | kUserRead};
    std::array<std::uint8_t, 32> rights{};
    for (unsigned i = 0; i < rights.size(); ++i) {
      const unsigned never =
          ((i & kXn) != 0 ? kUserExecute | kPrivilegedExecute : 0) | ((i & kPxn) != 0 ? kPrivilegedExecute : 0);
      rights[i] = static_cast<std::uint8_t>(kByAp[i & 7] & ~never);
    }
    return rights;
  }();

  // `access`: AP, kXn, kPxn. WXN takes execution from what is writable, UWXN from PL1 for what PL0 may write.
  [[nodiscard, gnu::always_inline]] unsigned rights_of(unsigned access) {
    static_assert(kUserWrite << 1 == kUserExecute && kPrivilegedWrite << 1 == kPrivilegedExecute);
    unsigned rights = kRights[access];
    constexpr std::uint32_t kNever = sctlr::kWriteNever | sctlr::kUserWriteNever;
    if ((mmu_.sctlr & kNever) != 0) [[unlikely]] {
      const unsigned writable = rights & (kUserWrite | kPrivilegedWrite);
      if ((mmu_.sctlr & sctlr::kWriteNever) != 0) rights &= ~(writable << 1);
      if ((mmu_.sctlr & sctlr::kUserWriteNever) != 0 && (writable & kUserWrite) != 0) {
        rights &= ~kPrivilegedExecute;
      }
    }
    return rights;
  }

  // ---- MMU off: the address as it is, all rights [ARMv7 B3.2.1].
  [[nodiscard, gnu::always_inline]] Outcome flat(std::uint32_t va, Access access) {
    leaf_ = {.ipa = IpaAddr(va), .shift = 32, .rights = kAllRights, .type = access == Access::kExecute ? 1U : 0U};
    return kGood;
  }

  // ---- Short descriptors [ARMv7 B3.5.1]
  //
  //               31        20 19 18 17 16 15 14 12 11 10 9 8    5 4  3 2 1 0
  // section      | base       |NS|0 |nG|S |A2|TEX  |AP   |0|domain|XN|C|B|1|PXN|
  // supersection |31..24, 35..32 |1 |nG|S |A2|TEX  |AP   |0|39..36|XN|C|B|1|PXN|
  // table        | base, 31..10                          |0|domain|0|NS|PXN|0 1|
  //               31       16 15 14  12 11 10 9  8   6 5 4 3 2 1 0
  // large page   | base      |XN|TEX   |nG|S |A2|0    |AP |C|B|0 1|
  // small page   | base, 31..12        |nG|S |A2|TEX  |AP |C|B|1|XN|

  // A leaf's fields, wherever its descriptor has them.
  struct ShortFields {
    std::uint64_t ipa;
    unsigned level;
    unsigned shift;
    unsigned access;  // AP, kXn, kPxn
    unsigned type;    // S, TEX, C, B
    unsigned not_global;
  };

  static constexpr unsigned kClient = 1;
  static constexpr unsigned kManager = 3;

  // Access flag, domain and rights.
  [[nodiscard, gnu::always_inline]] Outcome finish_short(const ShortFields& fields) {
    const bool flag_clear = (mmu_.sctlr & sctlr::kAccessFlag) != 0 && (fields.access & 1) == 0;
    const unsigned domain = mmu_.dacr >> (2 * domain_) & 3;
    unsigned rights = kAllRights;
    if (domain == kClient && !flag_clear) [[likely]] {
      rights = rights_of(fields.access);
    } else {
      if (const Outcome o = check_domain(domain, flag_clear, fields.level); o != kGood) return o;
      if (domain == kClient) rights = rights_of(fields.access);
    }
    leaf_ = {.ipa = IpaAddr(fields.ipa),
             .level = fields.level & 3,
             .shift = fields.shift & 0x3f,
             .domain = domain_ & 0xf,
             .rights = rights & kAllRights,
             .type = fields.type & 0x3f,
             .global = (fields.not_global & 1) ^ 1};
    return kGood;
  }
  [[nodiscard, gnu::always_inline]] Outcome check_domain(unsigned domain, bool access_flag_clear,
                                                         unsigned level) const {
    const bool no_access = (domain & 1) == 0;
    if (mmu_.early_domain_check && no_access) return failed(FaultKind::kDomain, level);
    if (access_flag_clear && !(mmu_.early_domain_check && domain == kManager)) {
      return failed(FaultKind::kAccessFlag, level);
    }
    return no_access ? failed(FaultKind::kDomain, level) : kGood;
  }

  [[nodiscard, gnu::always_inline]] Outcome section(std::uint32_t va, std::uint32_t entry) {
    ShortFields fields{.ipa = (entry & 0xfff0'0000) | (va & 0x000f'ffff),
                       .level = 1,
                       .shift = 20,
                       .access = (entry >> 10 & 3) | (entry >> 13 & 4) | (entry >> 1 & kXn) | (entry << 4 & kPxn),
                       .type = (entry >> 11 & 0x20) | (entry >> 10 & 0x1c) | (entry >> 2 & 3),
                       .not_global = entry >> 17};
    if ((entry >> 18 & 1) != 0) {
      const std::uint64_t high = std::uint64_t{entry >> 20 & 0xf} << 32 | std::uint64_t{entry >> 5 & 0xf} << 36;
      fields.ipa = high | (entry & 0xff00'0000) | (va & 0x00ff'ffff);
      fields.shift = 24;
    } else {
      domain_ = entry >> 5 & 0xf;
    }
    return finish_short(fields);
  }

  [[nodiscard, gnu::always_inline]] Outcome large_page(std::uint32_t va, std::uint32_t table, std::uint32_t entry) {
    return finish_short({.ipa = (entry & ~0xffffU) | (va & 0xffff),
                         .level = 2,
                         .shift = 16,
                         .access = (entry >> 4 & 3) | (entry >> 7 & 4) | (entry >> 12 & kXn) | (table << 2 & kPxn),
                         .type = (entry >> 5 & 0x20) | (entry >> 10 & 0x1c) | (entry >> 2 & 3),
                         .not_global = entry >> 11});
  }
  [[nodiscard, gnu::always_inline]] Outcome small_page(std::uint32_t va, std::uint32_t table, std::uint32_t entry) {
    return finish_short({.ipa = (entry & ~0xfffU) | (va & 0xfff),
                         .level = 2,
                         .shift = 12,
                         .access = (entry >> 4 & 3) | (entry >> 7 & 4) | (entry << 3 & kXn) | (table << 2 & kPxn),
                         .type = (entry >> 5 & 0x20) | (entry >> 4 & 0x1c) | (entry >> 2 & 3),
                         .not_global = entry >> 11});
  }

  [[nodiscard, gnu::always_inline]] Outcome short_walk(std::uint32_t va) {
    // TTBR0 for addresses whose top N bits are zero, with a table that is shorter for it; else TTBR1 [ARMv7 B3.5.4].
    std::uint64_t base = mmu_.ttbr0;
    std::uint32_t mask = 0x3fff;
    unsigned off = 1U << 4;  // PD0
    if (const unsigned n = mmu_.ttbcr & 7; n != 0) [[unlikely]] {
      if (va >> (32 - n) != 0) {
        base = mmu_.ttbr1;
        off = 1U << 5;  // PD1
      } else {
        mask >>= n;
      }
    }
    if ((mmu_.ttbcr & off) != 0) [[unlikely]]
      return failed(FaultKind::kTranslation, 1);
    const std::uint32_t first = (static_cast<std::uint32_t>(base) & ~mask) | ((va >> 18) & mask & ~3U);
    std::uint32_t table = 0;
    if (const Outcome o = fetch(IpaAddr(first), 1, table); o != kGood) [[unlikely]]
      return o;
    if ((table & 3) != 1) return (table & 3) == 0 ? failed(FaultKind::kTranslation, 1) : section(va, table);
    domain_ = table >> 5 & 0xf;
    if (mmu_.early_domain_check && (mmu_.dacr >> (2 * domain_) & 1) == 0) [[unlikely]] {
      return failed(FaultKind::kDomain, 2);
    }
    std::uint32_t entry = 0;
    if (const Outcome o = fetch(IpaAddr((table & ~0x3ffU) | ((va >> 10) & 0x3fc)), 2, entry); o != kGood) [[unlikely]]
      return o;
    if ((entry & 2) != 0) [[likely]]
      return small_page(va, table, entry);
    return (entry & 1) != 0 ? large_page(va, table, entry) : failed(FaultKind::kTranslation, 2);
  }

  // ---- Long descriptors [ARMv7 B3.6]; mm/translation/descriptor.hh has the picture.

  [[nodiscard, gnu::always_inline]] Outcome long_walk(std::uint32_t va) {
    // Which half of the address space, and how many bits its tables translate [ARMv7 B3.6.5].
    const unsigned size0 = mmu_.ttbcr & 7;
    const unsigned size1 = mmu_.ttbcr >> 16 & 7;
    const bool in_first = size0 == 0 || va >> (32 - size0) == 0;
    const bool second = size1 == 0 ? !in_first : ~va >> (32 - size1) == 0;
    const bool off = (mmu_.ttbcr >> (second ? 23 : 7) & 1) != 0;  // EPD1, EPD0
    if (off || (!in_first && !second)) [[unlikely]]
      return failed(FaultKind::kTranslation, 1);
    const unsigned bits = 32 - (second ? size1 : size0);
    // A space of at most 1 GiB starts at level 2. The first table is as long as the addresses are.
    unsigned level = bits > 30 ? 1 : 2;
    unsigned shift = level_shift(level);
    std::uint32_t mask = (1U << (bits - shift)) - 1;
    constexpr std::uint64_t kPhysMask = (std::uint64_t{1} << kPhysBits) - 1;
    std::uint64_t table = (second ? mmu_.ttbr1 : mmu_.ttbr0) & kPhysMask & ~(std::uint64_t{mask} << 3 | 7);
    unsigned table_attributes = 0;
    for (;;) {
      Entry entry = 0;
      if (const Outcome o = fetch(IpaAddr(table | (va >> shift & mask) << 3), level, entry); o != kGood) [[unlikely]]
        return o;
      const auto type = static_cast<unsigned>(entry & kEntryTypeMask);
      if (type == 3 && level != kLastLevel) {
        table_attributes |= static_cast<unsigned>(entry >> 59) & 0xf;
        table = entry & kEntryAddressMask;
        mask = kEntriesPerTable - 1;
        shift -= 9;
        ++level;
        continue;
      }
      if ((type & 1) == 0 || (type == 1 && level == kLastLevel)) [[unlikely]]
        return failed(FaultKind::kTranslation, level);
      return long_leaf(va, level, shift, entry, table_attributes);
    }
  }

  [[nodiscard, gnu::always_inline]] Outcome long_leaf(std::uint32_t va, unsigned level, unsigned shift, Entry entry,
                                                      unsigned table_attributes) {
    if ((entry & kAccessFlag) == 0) [[unlikely]]
      return failed(FaultKind::kAccessFlag, level);
    const std::uint32_t offset = (1U << shift) - 1;
    const auto low = static_cast<std::uint32_t>(entry);
    const auto high = static_cast<std::uint32_t>(entry >> 32);
    // Tables above can only take rights away: PXNTable, XNTable, APTable[0] (no PL0), APTable[1] (no writes).
    unsigned ap = (low >> 5 & 6) | 1;
    if (table_attributes != 0) [[unlikely]] {
      if ((table_attributes & 4) != 0) ap &= ~2U;
      ap |= (table_attributes & 8) >> 1;
    }
    // XN and PXN, in a leaf and in the tables above.
    const unsigned rights = rights_of(ap | (high >> 19 & kXn) | (high >> 17 & kPxn) | (table_attributes << 2 & kXn) |
                                      (table_attributes << 4 & kPxn));
    leaf_ = {.ipa = IpaAddr((entry & kEntryAddressMask & ~std::uint64_t{offset}) | (va & offset)),
             .level = level & 3,
             .shift = shift & 0x3f,
             .rights = rights & kAllRights,
             .type = (low >> 5 & 0x18) | (low >> 2 & 7),
             .global = (low >> 11 & 1) ^ 1};
    return kGood;
  }

  const GuestMmu& mmu_;
  Memory& guest_;
  Trace& trace_;
  Stage1Leaf leaf_;
  IpaAddr failed_ipa_;
  unsigned domain_ = 0;  // as far as it is known
};

template <GuestPhysicalMemory Memory, class Trace>
[[gnu::always_inline]] inline WalkResult<GuestTranslation> guest_walk(const GuestMmu& mmu, Memory& guest,
                                                                      GuestVirtAddr address, Access access,
                                                                      Privilege privilege, Trace&& trace) {
  GuestWalker walker(mmu, guest, trace);
  GuestTranslation result;
  auto outcome = walker.stage1(address.value(), access);
  if (outcome == walker.kGood) [[likely]]
    outcome = walker.permit(access, privilege);
  if (outcome == walker.kGood) [[likely]]
    outcome = walker.stage2(access, result);
  if (outcome != walker.kGood) [[unlikely]]
    return std::unexpected(walker.fault(outcome));
  return result;
}

template <GuestPhysicalMemory Memory, class Trace>
WalkResult<Stage1Leaf> stage1_walk(const GuestMmu& mmu, Memory& guest, GuestVirtAddr address, Access access,
                                   Trace&& trace) {
  GuestWalker walker(mmu, guest, trace);
  const auto outcome = walker.stage1(address.value(), access);
  if (outcome != walker.kGood) return std::unexpected(walker.fault(outcome));
  return walker.leaf();
}

}  // namespace cadastre
