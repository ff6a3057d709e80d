#include "mm/boot/fixmap.hh"

#include <array>

#include "mm/frames/kmap.hh"
#include "mm/translation/page_table_change.hh"
#include "tests/unit/table_environment.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

using Table = HypTable<LoggingTables>;

constexpr FixmapSlot kLarge{.start = 0xfe00'0000, .size = 2 * kBlockSize, .granule = kBlockSize};
constexpr FixmapSlot kSmall{.start = 0xfe40'0000, .size = 2 * kPageSize, .granule = kPageSize};

TEST_CASE("fixmap: a slot has its address whatever is mapped there, and is free again when it is cleared") {
  LoggingTables environment;
  Table table(environment, LoggingTables::kRoot);
  const PhysAddr dtb(0x4812'3458);
  CHECK_EQ(*set_fixmap(table, kLarge, dtb, kBlockSize, HypAttributes::rodata()), reinterpret_cast<void*>(0xfe12'3458));
  CHECK_EQ(*set_fixmap(table, kSmall, PhysAddr(0x900'0123), 4, HypAttributes::device()),
           reinterpret_cast<void*>(0xfe40'0123));
  const auto at = [&](std::uintptr_t address) { return table.query(HypVirtAddr(address)).value_or(Table::Mapping{}); };
  CHECK_EQ(at(0xfe12'3458).address, dtb);
  CHECK_EQ(at(0xfe32'3457).address, dtb + kBlockSize - 1);
  CHECK_FALSE(at(0xfe12'3458).attributes.writable());
  CHECK_EQ(at(0xfe12'2fff).level, 0);
  CHECK_EQ(at(0xfe40'0123).address, PhysAddr(0x900'0123));
  CHECK_EQ(set_fixmap(table, kLarge, PhysAddr(0), 4, HypAttributes::data()).error(), Error::kOverlap);
  environment.start_log();
  clear_fixmap(table, kLarge);
  CHECK_EQ(environment.invalidations(), 1);
  CHECK_EQ(at(0xfe12'3458).level, 0);
  CHECK_EQ(at(0xfe40'0123).level, 3);
  CHECK(set_fixmap(table, kLarge, PhysAddr(0x8000'0000), 2 * kBlockSize, HypAttributes::data()));
  CHECK_EQ(at(0xfe00'0000).level, 2);
  clear_fixmap(table, kLarge);
  clear_fixmap(table, kLarge);  // an empty one stays empty
  clear_fixmap(table, kSmall);
  CHECK_EQ(environment.allocated(), 0);
}

TEST_CASE("fixmap: what does not fit is refused, also for want of tables, and changes nothing") {
  LoggingTables environment;
  Table table(environment, LoggingTables::kRoot);
  const auto error = [&](const FixmapSlot& slot, PhysAddr physical, std::uint64_t size) {
    return set_fixmap(table, slot, physical, size, HypAttributes::data()).error();
  };
  CHECK_EQ(error(kSmall, PhysAddr(0x1000), 0), Error::kInvalid);
  CHECK_EQ(error(kSmall, PhysAddr(0x1000), 2 * kPageSize + 1), Error::kOutOfRange);
  CHECK_EQ(error(kSmall, PhysAddr(0x1001), 2 * kPageSize), Error::kOutOfRange);
  CHECK_EQ(error(kLarge, PhysAddr(kBlockSize - kPageSize), kBlockSize + kPageSize + 1), Error::kOutOfRange);
  CHECK_EQ(error(kLarge, PhysAddr(0), ~std::uint64_t{0}), Error::kOutOfRange);
  for (unsigned tables = 0; tables < 2; ++tables) {
    environment.fail_after(tables);
    CHECK_EQ(error(kSmall, PhysAddr(0x1000), 4), Error::kNoMemory);
    CHECK_EQ(environment.allocated(), 0);
  }
  environment.never_fail();
  CHECK_EQ(table.next_mapped(HypVirtAddr(0)), Table::kInputSize);
}

TEST_CASE("fixmap: slots that reach into each other are seen when the program is compiled") {
  static_assert(are_apart(std::array{kLarge, kSmall}));
  static_assert(!are_apart(std::array{kSmall, kLarge}));
  static_assert(!are_apart(std::array{kLarge, FixmapSlot{.start = 0xfe3f'f000, .size = 4096, .granule = 4096}}));
  CHECK(are_apart({}));
}

TEST_CASE("kmap: windows nest to a limit, and only the newest goes") {
  KmapStack stack;
  for (unsigned window = 0; window < KmapStack::kWindows; ++window) CHECK_EQ(*stack.push(), window);
  CHECK_EQ(stack.push().error(), Error::kLimit);
  CHECK_EQ(stack.pop(KmapStack::kWindows - 2).error(), Error::kCorrupt);
  CHECK_EQ(stack.pop(KmapStack::kWindows).error(), Error::kCorrupt);
  CHECK_EQ(stack.depth(), KmapStack::kWindows);
  for (unsigned window = KmapStack::kWindows; window-- > 0;) REQUIRE(stack.pop(window));
  CHECK_EQ(stack.pop(0).error(), Error::kCorrupt);
  CHECK_EQ(stack.pop(~0U).error(), Error::kCorrupt);
  CHECK_EQ(stack.depth(), 0);
}

}  // namespace
}  // namespace cadastre
