// Guests for tests of walks: pages that lie somewhere, words in them, and registers.
#pragma once

#include <bit>
#include <optional>
#include <random>

#include "mm/translation/guest_walk.hh"
#include "tests/model/reference_walk.hh"
#include "tests/unit/test.hh"

namespace cadastre {

// A guest whose pages lie 0x4000_0000 above their IPA.
class Guest {
 public:
  static constexpr std::uint64_t kOffset = 0x4000'0000;

  Guest() { mmu.sctlr = 1; }

  void map(std::uint64_t ipa, Stage2Attributes attributes = Stage2Attributes::ram(), std::uint64_t size = kPageSize) {
    for (std::uint64_t at = ipa; at < ipa + size; at += kPageSize) {
      memory.pages[at >> 12] = {at + kOffset,
                                attributes.readable(),
                                attributes.writable(),
                                attributes.executable(),
                                static_cast<unsigned>(attributes.memory()),
                                static_cast<unsigned>(attributes.shareability()),
                                3};
    }
  }
  void set32(std::uint64_t ipa, std::uint32_t value) { memory.set32(ipa + kOffset, value); }
  void set64(std::uint64_t ipa, std::uint64_t value) { memory.words[ipa + kOffset] = value; }

  // ---- GuestPhysicalMemory
  std::optional<Mapping<Stage2Attributes>> translate(IpaAddr ipa) {
    const auto found = memory.pages.find(ipa.value() >> 12);
    if (found == memory.pages.end()) return std::nullopt;
    const auto& page = found->second;
    const Entry bits = Stage2Attributes::of(static_cast<Stage2Memory>(page.memattr))
                           .with_read(page.read)
                           .with_write(page.write)
                           .with_execute(page.execute)
                           .bits();
    const auto attributes =
        Stage2Attributes::from_bits((bits & ~kShareabilityMask) | Entry{page.sh} << kShareabilityShift);
    return Mapping<Stage2Attributes>{PhysAddr(page.frame + ipa.offset_in(kPageSize)), attributes, page.level};
  }
  unsigned fault_level(IpaAddr) const { return memory.missing_level; }
  std::optional<std::uint32_t> read32(PhysAddr physical) {
    ++reads;
    if (memory.nothing.contains(physical.aligned_down(kPageSize).value())) return std::nullopt;
    const std::uint64_t word = memory.word(physical.value());
    return static_cast<std::uint32_t>((physical.value() & 4) != 0 ? word >> 32 : word);
  }
  std::optional<std::uint64_t> read64(PhysAddr physical) {
    ++reads;
    if (memory.nothing.contains(physical.aligned_down(kPageSize).value())) return std::nullopt;
    return memory.word(physical.value());
  }

  auto walk(std::uint32_t va, Access access = Access::kRead, Privilege privilege = Privilege::kPrivileged) {
    return guest_walk(mmu, *this, GuestVirtAddr(va), access, privilege);
  }
  std::uint64_t par(std::uint32_t va, Access access = Access::kRead, Privilege privilege = Privilege::kPrivileged) {
    const auto result = walk(va, access, privilege);
    return result ? par_of(mmu, *result) : par_of(result.error());
  }
  MemoryType memory_type(std::uint32_t va, Access access = Access::kRead) {
    const auto result = walk(va, access);
    REQUIRE(result);
    return memory_of(mmu, *result);
  }
  GuestFault fault(std::uint32_t va, Access access = Access::kRead, Privilege privilege = Privilege::kPrivileged) {
    const auto result = walk(va, access, privilege);
    REQUIRE_FALSE(result);
    return result.error();
  }
  PhysAddr physical(std::uint32_t va, Access access = Access::kRead, Privilege privilege = Privilege::kPrivileged) {
    const auto result = walk(va, access, privilege);
    REQUIRE(result);
    return result->physical;
  }

  GuestMmu mmu;
  model::GuestMemory memory;
  unsigned reads = 0;
};

// A guest with a first-level table at 0x4000 and a second-level one at 0x8000, client of domain 0.
struct ShortGuest : Guest {
  ShortGuest() {
    mmu.ttbr0 = 0x4000;
    mmu.dacr = 1;
    map(0, Stage2Attributes::ram(), 0x40'0000);
    map(0x10'0000, Stage2Attributes::ram(), 0x10'0000);
  }
  void section(std::uint32_t va, std::uint32_t entry) { set32(0x4000 + (va >> 20) * 4, entry); }
  void page(std::uint32_t va, std::uint32_t entry, std::uint32_t table_bits = 0) {
    section(va, 0x8000 | 1 | table_bits);
    set32(0x8000 + (va >> 12 & 0xff) * 4, entry);
  }
};

inline constexpr std::uint32_t kSection = 2;
inline constexpr std::uint32_t kSmallPage = 2;
inline constexpr std::uint32_t kLargePage = 1;
inline constexpr std::uint32_t kSectionRw = 3 << 10;  // AP 011
inline constexpr std::uint32_t kPageRw = 3 << 4;

// Random words in 64 pages that point to one another.
struct RandomGuest : Guest {
  explicit RandomGuest(std::uint64_t seed) : random(seed) {
    // 64 pages of IPA, some of them missing or odd, hold tables and data.
    for (std::uint64_t page = 0; page < kPages; ++page) {
      if (below(12) == 0) continue;
      static constexpr unsigned kMemory[] = {0, 1, 5, 10, 15, 15, 15, 6, 9};
      memory.pages[page] = {(page << 12) + kOffset,
                            below(10) != 0,
                            below(10) != 0,
                            below(6) != 0,
                            kMemory[below(9)],
                            below(3) == 0 ? 0U : 2 + static_cast<unsigned>(below(2)),
                            3};
    }
    if (below(3) == 0) memory.nothing[(below(kPages) << 12) + kOffset] = true;
    memory.missing_level = 1 + static_cast<unsigned>(below(3));
    mmu.sctlr = static_cast<std::uint32_t>(random()) & (1U << 12 | 1U << 19 | 1U << 20 | 1U << 28 | 1U << 29);
    mmu.sctlr |= below(20) == 0 ? 0 : 1;
    mmu.sctlr |= below(10) == 0 ? sctlr::kExceptionEndian : 0;
    mmu.hcr = (below(30) == 0 ? GuestMmu::kHcrDefaultCacheable : 0) | (below(4) == 0 ? GuestMmu::kHcrProtectedWalk : 0);
    mmu.dacr = static_cast<std::uint32_t>(random() | random());
    mmu.prrr = static_cast<std::uint32_t>(random());
    mmu.nmrr = static_cast<std::uint32_t>(random());
    mmu.ttbcr = static_cast<std::uint32_t>(below(8) | (below(8) == 0 ? 1U << below(8) : 0));
    mmu.ttbr0 = page();
    mmu.ttbr1 = page();
    if (below(2) == 0) {
      mmu.ttbcr = static_cast<std::uint32_t>(1U << 31 | below(8) | below(8) << 16 | (below(8) == 0 ? 1U << 7 : 0) |
                                             (below(8) == 0 ? 1U << 23 : 0));
      // In a long descriptor only these bytes name a memory type that ARMv7 has.
      static constexpr std::uint8_t kMair[] = {0x00, 0x04, 0x44, 0xaa, 0xee, 0xff, 0xbb, 0x4f};
      mmu.prrr = mmu.nmrr = 0;
      for (unsigned i = 0; i < 4; ++i) {
        mmu.prrr |= std::uint32_t{kMair[below(8)]} << 8 * i;
        mmu.nmrr |= std::uint32_t{kMair[below(8)]} << 8 * i;
      }
    }
    for (std::uint64_t at = 0; at < kPages << 12; at += 8) memory.words[at + kOffset] = word();
  }

  static constexpr std::uint64_t kPages = 64;

  std::uint64_t below(std::uint64_t bound) { return random() % bound; }
  std::uint64_t page() { return below(kPages) << 12; }
  std::uint64_t word() {
    std::uint64_t value = 0;
    if (mmu.long_format()) {
      value = page() | below(4096) | (below(8) != 0 ? 3 : 0) | (below(6) != 0 ? kAccessFlag : 0);
      if (below(3) == 0) value |= random() & 0xf8f0'0000'0000'0000;
      if (below(8) == 0) value |= random() & 0xff'ffff'f000;
    } else {
      value = short_word() | std::uint64_t{short_word()} << 32;
    }
    if ((mmu.sctlr & sctlr::kExceptionEndian) == 0) return value;
    value = std::byteswap(value);
    return mmu.long_format() ? value : value >> 32 | value << 32;
  }
  std::uint32_t short_word() {
    auto value = static_cast<std::uint32_t>(page() | below(4096));
    if (below(8) == 0) value |= 1U << 18;
    if (below(8) == 0) value = static_cast<std::uint32_t>(random());
    return below(8) != 0 ? value | 1 : value;
  }
  std::uint32_t address() {
    const auto value = static_cast<std::uint32_t>(random());
    return below(2) == 0 ? value : value & 0x03ff'ffff;
  }

  std::mt19937_64 random;
};

}  // namespace cadastre
