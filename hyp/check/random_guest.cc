#include "hyp/check/random_guest.hh"

#include "arch/armv7/cp15.hh"
#include "arch/armv7/guest_state.hh"
#include "mm/base/check.hh"

namespace cadastre {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// The bits of 32 that are set in `mask` are random.
[[nodiscard]] std::uint32_t random_bits(Random& random, std::uint32_t mask) {
  return random.next() & mask;
}

}  // namespace

void RandomGuest::renew() {
  const bool is_long = random_.once_in(2);
  const bool with_stage2 = is_long || !random_.once_in(4);
  clear();
  mmu().ttbcr = is_long ? 1U << 31 : 0;
  mmu().hcr = arch::hcr::kGuest & ~(GuestMmu::kHcrProtectedWalk | arch::hcr::kStage2);
  if (with_stage2) {
    mmu().hcr |= arch::hcr::kStage2;
    random_stage2();
  } else {
    no_stage2();
  }
  random_controls();
  is_long ? random_long_registers() : random_short_registers();
  // What the CPU does not have reads as zero: PD0 and PD1 where there are no Security Extensions [ARMv7 B4.1.153].
  arch::TTBCR::write(mmu().ttbcr);
  mmu().ttbcr = arch::TTBCR::read();
}

// ---- Stage 2

Stage2Attributes RandomGuest::random_attributes() {
  // Outer and inner cacheability 1 to 3 each; or Strongly-ordered, Device [ARMv7 B3.6.2].
  static constexpr std::array<std::uint8_t, 16> kMemory{0, 1, 5, 6, 7, 9, 10, 11, 13, 14, 15, 15, 15, 15, 15, 15};
  static constexpr std::array kShareability{Shareability::kNone, Shareability::kOuter, Shareability::kInner};
  const auto attributes = Stage2Attributes::of(static_cast<Stage2Memory>(kMemory[random_.below(kMemory.size())]))
                              .with_read(!random_.once_in(16))
                              .with_write(!random_.once_in(6))
                              .with_execute(!random_.once_in(4));
  const Entry shareability = shareability_bits(kShareability[random_.below(kShareability.size())]);
  return Stage2Attributes::from_bits((attributes.bits() & ~kShareabilityMask) | shareability);
}

void RandomGuest::random_window(IpaAddr base) {
  for (unsigned i = 0; i < kWindowPages; ++i) {
    if (random_.once_in(12)) continue;
    const std::uint64_t offset = std::uint64_t{random_.below(kPoolTables)} << kPageShift;
    CHECK(stage2().map_leaf(base + (std::uint64_t{i} << kPageShift), pool() + offset, kLastLevel, random_attributes()));
  }
}

void RandomGuest::random_stage2() {
  // Each region in a GiB of its own: three of the lower four, two above.
  const std::uint32_t unused = random_.below(4);
  const std::uint32_t high = 4 + random_.below(500);
  const std::array<std::uint64_t, 5> gib{(unused + 1) & 3, (unused + 2) & 3, (unused + 3) & 3, high,
                                         high + 1 + random_.below(500)};
  const auto place = [&](std::size_t index, std::uint64_t size) {
    return IpaAddr(gib[index] * kGiB + (random_.next() & (kGiB - size)));
  };
  const PhysAddr pool_gib = pool().aligned_down(kGiB);
  const PhysAddr anything(random_.next64() & kEntryAddressMask);

  regions_[0] = {.first = place(0, kBlockSize), .size = kWindowPages * kPageSize};
  random_window(regions_[0].first);
  regions_[1] = {.first = place(1, kBlockSize), .size = kBlockSize};
  CHECK(stage2().map_leaf(regions_[1].first, pool(), 2, random_attributes()));
  regions_[2] = {.first = place(2, kGiB), .size = kGiB, .tables = pool() - pool_gib};
  CHECK(stage2().map_leaf(regions_[2].first, pool_gib, 1, random_attributes()));
  regions_[3] = {.first = place(3, kBlockSize), .size = kBlockSize};
  CHECK(stage2().map_leaf(regions_[3].first, random_.once_in(2) ? pool() : anything.aligned_down(kBlockSize), 2,
                          random_attributes()));
  regions_[4] = {.first = place(4, kGiB), .size = kGiB, .tables = pool() - pool_gib};
  CHECK(stage2().map_leaf(regions_[4].first, random_.once_in(2) ? pool_gib : anything.aligned_down(kGiB), 1,
                          random_attributes()));
}

void RandomGuest::no_stage2() {
  regions_.fill({.first = IpaAddr(pool().value()), .size = kBlockSize});
}

// ---- Registers

void RandomGuest::random_controls() {
  if (has_stage2()) {
    if (random_.once_in(3)) mmu().hcr |= GuestMmu::kHcrProtectedWalk;
    if (random_.once_in(40)) mmu().hcr |= GuestMmu::kHcrDefaultCacheable;
  }
  mmu().sctlr = arch::SystemRegisters::kSctlrAtReset |
                random_bits(random_, sctlr::kInstructionCache | sctlr::kWriteNever | sctlr::kUserWriteNever |
                                         sctlr::kTexRemap | sctlr::kAccessFlag);
  if (!random_.once_in(24)) mmu().sctlr |= 1;
  if (random_.once_in(12)) mmu().sctlr |= sctlr::kExceptionEndian;
  // A client of each domain, or its manager; domains that nobody may use where the CPU can be asked (cpu_translation.hh).
  mmu().dacr = 0;
  for (unsigned domain = 0; domain < 16; ++domain) {
    const std::uint32_t access = has_stage2() ? 1 + 2 * random_.below(2) : random_.below(4);
    mmu().dacr |= (random_.once_in(3) ? access : 1) << (2 * domain);
  }
}

void RandomGuest::random_short_registers() {
  mmu().prrr = random_.next();
  mmu().nmrr = random_.next();
  mmu().prrr &= ~(mmu().prrr >> 1 & 0x5555);  // type 3 is reserved
  if (random_.once_in(2)) mmu().ttbcr |= random_.below(8);
  if (random_.once_in(10)) mmu().ttbcr |= 1U << 4;  // PD0
  if (random_.once_in(10)) mmu().ttbcr |= 1U << 5;  // PD1
  // NOS, RGN, S and IRGN of the walks.
  mmu().ttbr0 = table_address(0x4000U >> (mmu().ttbcr & 7)) | random_bits(random_, 0x7b);
  mmu().ttbr1 = table_address(0x4000) | random_bits(random_, 0x7b);
}

void RandomGuest::random_long_registers() {
  static constexpr std::array<std::uint8_t, 8> kMair{0x00, 0x04, 0x44, 0xaa, 0xee, 0xff, 0xbb, 0x4f};
  mmu().prrr = mmu().nmrr = 0;
  for (unsigned i = 0; i < 32; i += 8) {
    mmu().prrr |= std::uint32_t{kMair[random_.below(kMair.size())]} << i;
    mmu().nmrr |= std::uint32_t{kMair[random_.below(kMair.size())]} << i;
  }
  const auto size = [&] { return random_.once_in(2) ? random_.below(8) : 0; };
  mmu().ttbcr |= size() | size() << 16;
  if (random_.once_in(10)) mmu().ttbcr |= 1U << 7;   // EPD0
  if (random_.once_in(10)) mmu().ttbcr |= 1U << 23;  // EPD1
  mmu().ttbr0 = table_address(kPageSize);
  mmu().ttbr1 = table_address(kPageSize);
}

// ---- Addresses

std::uint64_t RandomGuest::table_address(std::uint64_t alignment) {
  const bool is_long = mmu().long_format();
  if (random_.once_in(24)) return (is_long ? random_.next64() & kEntryAddressMask : random_.next()) & ~(alignment - 1);
  // Mostly the window; seldom above 4 GiB.
  static constexpr std::array<std::uint8_t, 16> kRegions{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 4};
  const unsigned which = kRegions[random_.below(is_long ? 16 : 14)];
  const Region& region = regions_[which];
  const std::uint32_t pages = which == 0 ? kWindowPages : kPoolTables;
  const std::uint64_t offset =
      region.tables + (std::uint64_t{random_.below(pages)} << kPageShift) + random_bits(random_, 0xc00);
  return (region.first + offset).aligned_down(alignment).value();
}

std::uint64_t RandomGuest::leaf_address(std::uint64_t size) {
  if (random_.once_in(12)) return random_.next64() & kEntryAddressMask & ~(size - 1);
  const Region& region = regions_[random_.below(mmu().long_format() ? regions_.size() : kLowRegions)];
  return (region.first + (random_.next() & (region.size - 1))).aligned_down(size).value();
}

std::uint32_t RandomGuest::random_address() {
  std::uint32_t va = random_.next();
  // The ends of the address space belong to tables of their own.
  if (random_.once_in(3)) va >>= random_.below(8);
  if (random_.once_in(4)) va |= 0xff00'0000U << random_.below(8);
  if (random_.once_in(3)) va = last_address_ ^ (va >> (32 - random_.below(24) - 1));
  return va;
}

GuestVirtAddr RandomGuest::address() {
  const std::uint32_t va = random_address();
  last_address_ = va;
  // Now and then what is there already.
  if (!random_.once_in(8)) mmu().long_format() ? plant_long(va) : plant_short(va);
  return GuestVirtAddr(va);
}

// ---- Short descriptors; the picture is in mm/translation/guest_walk_stage1.hh.

// AP[2:0] as {AP[2], AP[1:0]}: mostly all may do all.
std::uint32_t RandomGuest::short_access() {
  return random_.once_in(2) ? random_.below(8) : 3;
}
std::uint32_t RandomGuest::section() {
  const std::uint32_t ap = short_access();
  return static_cast<std::uint32_t>(leaf_address(1U << 20)) | (ap & 3) << 10 | (ap & 4) << 13 |
         random_bits(random_, 0x000b'71fd) | 2;
}
std::uint32_t RandomGuest::supersection() {
  const std::uint64_t to =
      random_.once_in(2) ? leaf_address(1U << 24) : (regions_[3].first.value() & ~std::uint64_t{0xff'ffff});
  const std::uint32_t ap = short_access();
  return (static_cast<std::uint32_t>(to) & 0xff00'0000) | (static_cast<std::uint32_t>(to >> 32) & 0xf) << 20 |
         (static_cast<std::uint32_t>(to >> 36) & 0xf) << 5 | 1U << 18 | (ap & 3) << 10 | (ap & 4) << 13 |
         random_bits(random_, 0x000b'701d) | 2;
}
std::uint32_t RandomGuest::page() {
  const std::uint32_t ap = short_access();
  const std::uint32_t access = (ap & 3) << 4 | (ap & 4) << 7;
  const std::uint32_t kind = random_.below(12);
  if (kind == 0) return random_.next() & ~3U;
  if (kind == 1) return random_.next();
  if (kind < 5) return static_cast<std::uint32_t>(leaf_address(1U << 16)) | access | random_bits(random_, 0xfc0c) | 1;
  return static_cast<std::uint32_t>(leaf_address(kPageSize)) | access | random_bits(random_, 0xdcd) | 2;
}

void RandomGuest::plant_short(std::uint32_t va) {
  const std::uint32_t n = mmu().ttbcr & 7;
  const bool low = n == 0 || va >> (32 - n) == 0;
  const std::uint32_t base = low ? static_cast<std::uint32_t>(mmu().ttbr0) & (~0U << (14 - n))
                                 : static_cast<std::uint32_t>(mmu().ttbr1) & (~0U << 14);
  const IpaAddr first(base | va >> 20 << 2);
  const std::uint32_t kind = random_.below(16);
  if (kind == 0) return put32(first, random_.next() & ~3U);
  if (kind == 1) return put32(first, random_.next());
  if (kind < 5) return put32(first, section());
  if (kind < 7) return put32(first, supersection());
  const auto table = static_cast<std::uint32_t>(table_address(0x400));
  put32(first, table | random_bits(random_, 0x1ec) | 1);
  put32(IpaAddr(table | (va >> 12 & 0xff) << 2), page());
}

// ---- Long descriptors; the picture is in mm/translation/descriptor.hh.

Entry RandomGuest::long_leaf(unsigned level) {
  static constexpr std::array<Entry, 3> kShareability{0, 2, 3};
  Entry entry = leaf_address(level_size(level)) | kEntryValid | (level == kLastLevel ? kEntryTableOrPage : 0);
  entry |= random_bits(random_, 0x83c) | kShareability[random_.below(3)] << kShareabilityShift;
  entry |= Entry{random_.once_in(2) ? random_.below(4) : 1} << 6;  // AP[2:1]
  if (!random_.once_in(8)) entry |= kAccessFlag;
  // The contiguous hint, PXN, XN and what is ignored.
  if (random_.once_in(2)) entry |= Entry{random_bits(random_, 0xfff0'0000)} << 32;
  return entry;
}
Entry RandomGuest::long_table() {
  Entry entry = table_address(kPageSize) | random_bits(random_, 0xffc) | 3;
  if (random_.once_in(3)) entry |= Entry{random_bits(random_, 0xf800'0000)} << 32;
  return entry;
}

void RandomGuest::plant_long(std::uint32_t va) {
  const std::uint32_t size0 = mmu().ttbcr & 7;
  const std::uint32_t size1 = mmu().ttbcr >> 16 & 7;
  const bool high = size1 != 0 ? va >= ~(~0U >> size1) : size0 != 0 && va > ~0U >> size0;
  const std::uint32_t bits = 32 - (high ? size1 : size0);
  unsigned level = bits > 30 ? 1 : 2;
  const std::uint64_t first_size = (std::uint64_t{1} << (bits - level_shift(level))) * sizeof(Entry);
  std::uint64_t table = (high ? mmu().ttbr1 : mmu().ttbr0) & ~(first_size - 1);
  std::uint64_t index = (va >> level_shift(level)) & (first_size / sizeof(Entry) - 1);
  for (;; ++level) {
    const IpaAddr place(table + index * sizeof(Entry));
    const std::uint32_t kind = random_.below(20);
    if (kind == 0) return put64(place, random_.next64() & ~Entry{1});
    if (kind == 1 && level == kLastLevel) return put64(place, long_leaf(level) & ~kEntryTableOrPage);
    if (kind < 5 || level == kLastLevel) return put64(place, long_leaf(level));
    const Entry entry = long_table();
    put64(place, entry);
    table = entry & kEntryAddressMask;
    index = (va >> level_shift(level + 1)) & (kEntriesPerTable - 1);
  }
}

}  // namespace cadastre
