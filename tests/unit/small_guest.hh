// A guest with a few pages of RAM, populated when they are touched, and translation tables that a test fills in: sections
// and small pages of short descriptors.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <set>

#include "mm/guest/guest_copy.hh"
#include "tests/unit/test.hh"

namespace cadastre {

class SmallGuest {
 public:
  static constexpr std::uint32_t kRam = 0x4000'0000;
  static constexpr std::uint32_t kRamSize = 0x10'0000;
  static constexpr std::uint64_t kPhysicalOffset = 0x10'0000'0000;
  static constexpr std::uint32_t kSections = kRam + 0x4000;
  static constexpr std::uint32_t kPages = kRam + 0x8000;

  enum class Rights : std::uint32_t { kPrivileged = 1, kUserReads = 2, kAll = 3, kReadOnly = 0b100'011 };

  SmallGuest() {
    mmu.sctlr = 1;
    mmu.ttbr0 = kSections;
    mmu.dacr = 1;
    section(kRam, kRam, Rights::kPrivileged);
  }

  // ---- The guest's tables

  void section(std::uint32_t address, std::uint32_t ipa, Rights rights, bool execute = true) {
    const auto ap = static_cast<std::uint32_t>(rights);
    poke(kSections + (address >> 20) * 4, ipa | (ap & 3) << 10 | (ap & 32) << 10 | (execute ? 0 : 1U << 4) | 2);
  }
  // All of one MiB at a time: its table is the one there is.
  void page(std::uint32_t address, std::uint32_t ipa, Rights rights, bool execute = true) {
    const auto ap = static_cast<std::uint32_t>(rights);
    poke(kSections + (address >> 20) * 4, kPages | 1);
    poke(kPages + (address >> 12 & 0xff) * 4, ipa | (ap & 3) << 4 | (ap & 32) << 4 | (execute ? 0 : 1U) | 2);
  }

  // ---- RAM, by its IPA

  void poke(std::uint32_t ipa, std::uint32_t value) { std::memcpy(&at(ipa), &value, sizeof value); }
  [[nodiscard]] std::uint32_t peek(std::uint32_t ipa) {
    std::uint32_t value = 0;
    std::memcpy(&value, &at(ipa), sizeof value);
    return value;
  }
  void fill(std::uint32_t ipa, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) at(ipa + static_cast<std::uint32_t>(i)) = pattern(ipa + i);
  }
  [[nodiscard]] static std::byte pattern(std::uint64_t ipa) { return static_cast<std::byte>(ipa * 7 + (ipa >> 8)); }
  std::byte& at(std::uint32_t ipa) { return pages_[ipa / kPageSize][ipa % kPageSize]; }

  // ---- GuestRam

  std::optional<Mapping<Stage2Attributes>> translate(IpaAddr ipa) const {
    const auto page = static_cast<std::uint32_t>(ipa.value() / kPageSize);
    const PhysAddr physical(ipa.value() + kPhysicalOffset);
    if (devices.contains(page)) return Mapping<Stage2Attributes>{physical, Stage2Attributes::device(), 3};
    if (!pages_.contains(page)) return std::nullopt;
    return Mapping<Stage2Attributes>{physical, Stage2Attributes::ram().with_write(!protected_pages.contains(page)), 3};
  }
  static unsigned fault_level(IpaAddr) { return 3; }
  std::optional<std::uint32_t> read32(PhysAddr physical) { return read_word<std::uint32_t>(physical); }
  std::optional<std::uint64_t> read64(PhysAddr physical) { return read_word<std::uint64_t>(physical); }
  bool serve_fault(IpaAddr ipa, Access access) {
    ++faults;
    if (ipa.value() < kRam || ipa.value() >= kRam + kRamSize || refuse) return false;
    const auto page = static_cast<std::uint32_t>(ipa.value() / kPageSize);
    pages_.try_emplace(page);
    if (access == Access::kWrite && !stay_protected) protected_pages.erase(page);
    return true;
  }
  void read(PhysAddr physical, std::span<std::byte> to) {
    REQUIRE(physical.offset_in(kPageSize) + to.size() <= kPageSize);
    std::memcpy(to.data(), &at(ipa_of(physical)), to.size());
  }
  void write(PhysAddr physical, std::span<const std::byte> from) {
    REQUIRE(physical.offset_in(kPageSize) + from.size() <= kPageSize);
    REQUIRE_FALSE(protected_pages.contains(ipa_of(physical) / kPageSize));
    std::memcpy(&at(ipa_of(physical)), from.data(), from.size());
  }

  GuestMmu mmu;
  std::set<std::uint32_t> devices;          // mapped pages that are no RAM
  std::set<std::uint32_t> protected_pages;  // until somebody writes
  bool refuse = false;                      // no more RAM is populated
  bool stay_protected = false;              // answers a fault, to no avail
  unsigned faults = 0;

 private:
  [[nodiscard]] static std::uint32_t ipa_of(PhysAddr physical) {
    return static_cast<std::uint32_t>(physical.value() - kPhysicalOffset);
  }
  template <class Word>
  std::optional<Word> read_word(PhysAddr physical) {
    Word value = 0;
    read(physical, std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }

  std::map<std::uint32_t, std::array<std::byte, kPageSize>> pages_;
};

static_assert(GuestRam<SmallGuest>);

}  // namespace cadastre
