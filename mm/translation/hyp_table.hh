// HYP's own translation: one stage, one 4 GiB space, its root in HTTBR [ARMv7 B3.6].
//
//   HYP virtual   31 30 | 29 .. 21 | 20 .. 12 | 11 .. 0
//   root (32 bytes, 4 entries of 1 GiB) -> level 2 (2 MiB) -> level 3 (4 KiB)
#pragma once

#include <cstdint>

#include "mm/base/address.hh"
#include "mm/translation/descriptor.hh"
#include "mm/translation/page_table.hh"

namespace cadastre {

// What AttrIndx selects in HMAIR0 [ARMv7 B4.1, HMAIR0].
enum class HypMemory : std::uint8_t { kNormal = 0, kDevice = 1, kNonCacheable = 2, kStronglyOrdered = 3 };

// Normal write-back write-allocate; Device; Normal non-cacheable; Strongly-ordered.
inline constexpr std::uint32_t kHmair0 = 0x00'44'04'ff;
inline constexpr std::uint32_t kHmair1 = 0;
// T0SZ 0; walks inner and outer write-back write-allocate, inner shareable; bits 31 and 23 read as one.
inline constexpr std::uint32_t kHtcr = 1U << 31 | 1U << 23 | 3U << 12 | 1U << 10 | 1U << 8;

// The attributes of a HYP mapping, as they are in its descriptor. Made by the functions below; never both
// writable and executable.
class HypAttributes {
 public:
  constexpr HypAttributes() = default;

  [[nodiscard]] static constexpr HypAttributes text() { return of(HypMemory::kNormal).read_only().executable(); }
  [[nodiscard]] static constexpr HypAttributes rodata() { return of(HypMemory::kNormal).read_only(); }
  [[nodiscard]] static constexpr HypAttributes data() { return of(HypMemory::kNormal); }
  [[nodiscard]] static constexpr HypAttributes device() { return of(HypMemory::kDevice); }
  [[nodiscard]] static constexpr HypAttributes non_cacheable() { return of(HypMemory::kNonCacheable); }
  // Of the boot tables alone, which run the code that makes the others.
  [[nodiscard]] static constexpr HypAttributes boot() { return HypAttributes(data().bits_ & ~kExecuteNever); }

  [[nodiscard]] constexpr HypMemory memory() const { return static_cast<HypMemory>((bits_ >> 2) & 7); }
  [[nodiscard]] constexpr bool writable() const { return (bits_ & kReadOnly) == 0; }
  [[nodiscard]] constexpr bool is_executable() const { return (bits_ & kExecuteNever) == 0; }

  [[nodiscard]] constexpr Entry bits() const { return bits_; }
  [[nodiscard]] static constexpr HypAttributes from_bits(Entry bits) { return HypAttributes(bits); }
  friend constexpr bool operator==(HypAttributes, HypAttributes) = default;

 private:
  // AP[2:1] at 7:6: AP[2] is read-only, AP[1] should be one as there is no PL0 in HYP [ARMv7 B3.7.1].
  static constexpr Entry kReadOnly = Entry{1} << 7;
  static constexpr Entry kApShouldBeOne = Entry{1} << 6;

  explicit constexpr HypAttributes(Entry bits) : bits_(bits) {}
  static constexpr HypAttributes of(HypMemory memory) {
    return HypAttributes(static_cast<Entry>(memory) << 2 | kApShouldBeOne | kAccessFlag | kExecuteNever |
                         shareability_bits(Shareability::kInner));
  }
  [[nodiscard]] constexpr HypAttributes read_only() const { return HypAttributes(bits_ | kReadOnly); }
  [[nodiscard]] constexpr HypAttributes executable() const { return HypAttributes(bits_ & ~kExecuteNever); }

  Entry bits_ = 0;
};

static_assert(HypAttributes::data().bits() == 0x0040'0000'0000'0740);
static_assert(HypAttributes::text().bits() == 0x7c0 && HypAttributes::device().bits() == 0x0040'0000'0000'0744);

struct HypGeometry {
  using Input = HypVirtAddr;
  using Attributes = HypAttributes;
  static constexpr unsigned kInputBits = 32;
  static constexpr unsigned kRootEntries = 4;

  // Memory type and shareability need a break; permissions alone do not [ARMv7 B3.10.1].
  [[nodiscard]] static constexpr bool needs_break(Attributes from, Attributes to) {
    constexpr Entry kType = Entry{7} << 2 | kShareabilityMask;
    return ((from.bits() ^ to.bits()) & kType) != 0;
  }
};

template <class Environment>
using HypTable = PageTable<HypGeometry, Environment>;

}  // namespace cadastre
