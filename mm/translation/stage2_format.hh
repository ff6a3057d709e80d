// The format of stage 2, from a guest's IPA to a physical address [ARMv7 B3.6, VTTBR, VTCR].
//
//   IPA    39 .. 30 | 29 .. 21 | 20 .. 12 | 11 .. 0
//   root: two concatenated level-1 tables, 1024 entries of 1 GiB, 8 KiB, aligned to 8 KiB
//        -> level 2 (2 MiB) -> level 3 (4 KiB)
#pragma once

#include <cstdint>

#include "mm/base/access.hh"
#include "mm/base/address.hh"
#include "mm/translation/descriptor.hh"
#include "mm/translation/page_table.hh"

namespace cadastre {

inline constexpr unsigned kIpaBits = 40;

// SL0 1 (start at level 1) and T0SZ -8 (its sign repeated in S): 40 bits. Walks inner and outer write-back
// write-allocate, inner shareable; bit 31 reads as one.
inline constexpr std::uint32_t kVtcr = 1U << 31 | 3U << 12 | 1U << 10 | 1U << 8 | 1U << 6 | 1U << 4 | 0x8U;
// VTTBR.BADDR starts at bit 5 - T0SZ when SL0 is 1 [ARMv7 B4.1, VTTBR].
static_assert(1U << (5 + 8) == 8192);

[[nodiscard]] constexpr std::uint64_t vttbr(PhysAddr root, std::uint8_t vmid) {
  return root.value() | std::uint64_t{vmid} << 48;
}

// MemAttr[3:0] of stage 2 [ARMv7 B3.6.2]: the weaker of this and the guest's own is what counts.
enum class Stage2Memory : std::uint8_t {
  kStronglyOrdered = 0b0000,
  kDevice = 0b0001,
  kNonCacheable = 0b0101,
  kWriteThrough = 0b1010,
  kNormal = 0b1111,  // write-back, inner and outer
};

// The attributes of a guest's mapping, as they are in its descriptor.
class Stage2Attributes {
 public:
  constexpr Stage2Attributes() = default;

  // Readable, writable, executable; inner shareable.
  [[nodiscard]] static constexpr Stage2Attributes ram() { return of(Stage2Memory::kNormal); }
  // Readable and writable; what a guest executes from a device is its own fault.
  [[nodiscard]] static constexpr Stage2Attributes device() { return of(Stage2Memory::kDevice).with_execute(false); }
  [[nodiscard]] static constexpr Stage2Attributes of(Stage2Memory memory) {
    return Stage2Attributes(static_cast<Entry>(memory) << 2 | kHapRead | kHapWrite | kAccessFlag |
                            shareability_bits(Shareability::kInner));
  }

  [[nodiscard]] constexpr Stage2Memory memory() const { return static_cast<Stage2Memory>((bits_ >> 2) & 0xf); }
  // The same memory type and shareability.
  [[nodiscard]] constexpr bool has_type_of(Stage2Attributes other) const {
    return ((bits_ ^ other.bits_) & (Entry{0xf} << 2 | kShareabilityMask)) == 0;
  }
  // Device or Strongly-ordered.
  [[nodiscard]] constexpr bool is_device() const { return (bits_ >> 4 & 3) == 0; }
  [[nodiscard]] constexpr Shareability shareability() const {
    return static_cast<Shareability>((bits_ & kShareabilityMask) >> kShareabilityShift);
  }
  [[nodiscard]] constexpr bool readable() const { return (bits_ & kHapRead) != 0; }
  [[nodiscard]] constexpr bool writable() const { return (bits_ & kHapWrite) != 0; }
  [[nodiscard]] constexpr bool executable() const { return (bits_ & kExecuteNever) == 0; }
  // Execution needs the right to read too.
  [[nodiscard]] constexpr bool allow(Access access) const {
    return access == Access::kRead    ? readable()
           : access == Access::kWrite ? writable()
                                      : (bits_ & (kHapRead | kExecuteNever)) == kHapRead;
  }
  // Ours, ignored by the CPU: the frame is counted and copied on the first write.
  [[nodiscard]] constexpr bool copy_on_write() const { return (bits_ & kCopyOnWrite) != 0; }
  // Ours: read-only just until the first write, which the dirty log wants to hear of.
  [[nodiscard]] constexpr bool write_logged() const { return (bits_ & kWriteLogged) != 0; }

  [[nodiscard]] constexpr Stage2Attributes with_read(bool on) const { return with(kHapRead, on); }
  [[nodiscard]] constexpr Stage2Attributes with_write(bool on) const { return with(kHapWrite, on); }
  [[nodiscard]] constexpr Stage2Attributes with_execute(bool on) const { return with(kExecuteNever, !on); }
  [[nodiscard]] constexpr Stage2Attributes with_copy_on_write(bool on) const { return with(kCopyOnWrite, on); }
  [[nodiscard]] constexpr Stage2Attributes with_write_logged(bool on) const { return with(kWriteLogged, on); }

  [[nodiscard]] constexpr Entry bits() const { return bits_; }
  [[nodiscard]] static constexpr Stage2Attributes from_bits(Entry bits) { return Stage2Attributes(bits); }
  friend constexpr bool operator==(Stage2Attributes, Stage2Attributes) = default;

 private:
  // HAP[2:1] at 7:6 [ARMv7 B3.7].
  static constexpr Entry kHapRead = Entry{1} << 6;
  static constexpr Entry kHapWrite = Entry{1} << 7;
  // Of bits 58..55, which are left to software.
  static constexpr Entry kCopyOnWrite = Entry{1} << 55;
  static constexpr Entry kWriteLogged = Entry{1} << 56;

  explicit constexpr Stage2Attributes(Entry bits) : bits_(bits) {}
  [[nodiscard]] constexpr Stage2Attributes with(Entry bit, bool on) const {
    return Stage2Attributes(on ? bits_ | bit : bits_ & ~bit);
  }

  Entry bits_ = 0;
};

static_assert(Stage2Attributes::ram().bits() == 0x7fc);
static_assert(Stage2Attributes::device().bits() == 0x0040'0000'0000'07c4);

struct Stage2Geometry {
  using Input = IpaAddr;
  using Attributes = Stage2Attributes;
  static constexpr unsigned kInputBits = kIpaBits;
  static constexpr unsigned kRootEntries = 1024;

  // Memory type and shareability need a break; permissions alone do not [ARMv7 B3.10.1].
  [[nodiscard]] static constexpr bool needs_break(Attributes from, Attributes to) { return !from.has_type_of(to); }
};

// Pages of tables, besides the root, that a guest with so many bytes of RAM can need: for its RAM, from a GiB's border on and mapped
// page by page, and for its devices, which all lie in one block of 2 MiB below.
[[nodiscard]] constexpr unsigned stage2_tables(std::uint64_t ram) {
  constexpr std::uint64_t kDeviceTables = 2;
  const auto tables_of = [&](unsigned level) { return (ram + level_size(level) - 1) >> level_shift(level); };
  return static_cast<unsigned>(tables_of(1) + tables_of(2) + kDeviceTables);
}
static_assert(stage2_tables(std::uint64_t{2} << 30) == 2 + 1024 + 2);

}  // namespace cadastre
