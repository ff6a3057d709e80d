// LPAE descriptors, the format that HYP's tables and stage 2 share [ARMv7 B3.6.1].
//
//        63    59 58  55 54 53 52 51   40 39            n n-1  12 11 10 9 8 7 6 5    2 1 0
//       +--------+------+--+--+--+-------+---------------+-------+--+--+---+---+------+---+
// leaf  | 0      | ours |XN|PX|C | 0     | output address| 0     |nG|AF|SH |AP |attrib|t 1|   t: 0 block, 1 page
//       +--------+------+--+--+--+-------+---------------+-------+--+--+---+---+------+---+
// table | hier.  | ours            0     | next table, 39..12    | occupancy (ours)   |1 1|
//       +--------+-----------------------+-----------------------+--------------------+---+
//
// An entry with bit 0 clear is invalid and the CPU ignores the rest of it [ARMv7 B3.6.1]. Within one
// operation, and only there, this code keeps the old entry in those bits ("broken": old value, bit 0
// cleared), so that what was broken before a TLB invalidation can be found and released after it without a
// list at the side.
//
// Bits 11..2 of a table entry are ignored by the CPU too: they count the table's entries that are in use, so
// that an empty table is freed, and a full one considered for merging, without reading all of it.
#pragma once

#include <cstdint>

#include "mm/base/address.hh"

namespace cadastre {

using Entry = std::uint64_t;

inline constexpr unsigned kEntriesPerTable = 512;
inline constexpr unsigned kLastLevel = 3;
inline constexpr unsigned kPhysBits = 40;

inline constexpr Entry kEntryValid = 1;
inline constexpr Entry kEntryTableOrPage = 2;
inline constexpr Entry kEntryTypeMask = 3;
inline constexpr Entry kEntryAddressMask = ((Entry{1} << kPhysBits) - 1) & ~Entry{0xfff};
// Everything in a leaf that is not its address or type.
inline constexpr Entry kLeafAttributesMask = ~(kEntryAddressMask | kEntryTypeMask);

// Bits 58..55 of a leaf are software's: no TLB has them, and no flush is needed when they change.
inline constexpr Entry kLeafSoftwareMask = Entry{0xf} << 55;

inline constexpr unsigned kOccupancyShift = 2;
inline constexpr Entry kOccupancyMask = Entry{0x3ff} << kOccupancyShift;

// Bytes that one entry of `level` maps: 1 GiB, 2 MiB, 4 KiB.
[[nodiscard]] constexpr unsigned level_shift(unsigned level) {
  return kPageShift + 9 * (kLastLevel - level);
}
[[nodiscard]] constexpr std::uint64_t level_size(unsigned level) {
  return std::uint64_t{1} << level_shift(level);
}

[[nodiscard]] constexpr bool is_valid(Entry entry) {
  return (entry & kEntryValid) != 0;
}
[[nodiscard]] constexpr bool is_broken(Entry entry) {
  return entry != 0 && !is_valid(entry);
}
// For a valid or a broken entry. Level 3 holds pages only, and 0b01 there is invalid to the CPU: never
// written here.
[[nodiscard]] constexpr bool is_table(Entry entry, unsigned level) {
  return level < kLastLevel && (entry & kEntryTableOrPage) != 0;
}
[[nodiscard]] constexpr bool is_leaf(Entry entry, unsigned level) {
  return is_valid(entry) && !is_table(entry, level);
}

[[nodiscard]] constexpr PhysAddr entry_address(Entry entry) {
  return PhysAddr(entry & kEntryAddressMask);
}
[[nodiscard]] constexpr Entry leaf_attributes(Entry entry) {
  return entry & kLeafAttributesMask;
}

[[nodiscard]] constexpr Entry make_leaf(PhysAddr address, unsigned level, Entry attributes) {
  return address.value() | attributes | kEntryValid | (level == kLastLevel ? kEntryTableOrPage : 0);
}
[[nodiscard]] constexpr Entry make_table(PhysAddr table, unsigned occupancy) {
  return table.value() | Entry{occupancy} << kOccupancyShift | kEntryTableOrPage | kEntryValid;
}
[[nodiscard]] constexpr unsigned table_occupancy(Entry entry) {
  return static_cast<unsigned>((entry & kOccupancyMask) >> kOccupancyShift);
}
[[nodiscard]] constexpr Entry broken(Entry entry) {
  return entry & ~kEntryValid;
}

static_assert(level_size(1) == 1U << 30 && level_size(2) == kBlockSize && level_size(3) == kPageSize);
static_assert(kEntryAddressMask == 0xff'ffff'f000);
static_assert(make_leaf(PhysAddr(0x8000'0000), 1, 0) == 0x8000'0001);
static_assert(make_leaf(PhysAddr(0x8000'1000), 3, 0) == 0x8000'1003);
static_assert(table_occupancy(make_table(PhysAddr(0xff'ffff'f000), kEntriesPerTable)) == kEntriesPerTable);
static_assert(entry_address(make_table(PhysAddr(0xff'ffff'f000), kEntriesPerTable)).value() == 0xff'ffff'f000);

// Fields that both stages have at the same place.
enum class Shareability : std::uint8_t { kNone = 0, kOuter = 2, kInner = 3 };
inline constexpr unsigned kShareabilityShift = 8;
inline constexpr Entry kShareabilityMask = Entry{3} << kShareabilityShift;
inline constexpr Entry kAccessFlag = Entry{1} << 10;
inline constexpr Entry kContiguousHint = Entry{1} << 52;
inline constexpr Entry kExecuteNever = Entry{1} << 54;

[[nodiscard]] constexpr Entry shareability_bits(Shareability shareability) {
  return static_cast<Entry>(shareability) << kShareabilityShift;
}

}  // namespace cadastre
