#include "mm/translation/page_table.hh"

#include <map>
#include <random>
#include <string>

#include "mm/translation/hyp_table.hh"
#include "mm/translation/page_table_change.hh"
#include "mm/translation/stage2_format.hh"
#include "tests/unit/table_environment.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr std::uint64_t kKiB4 = kPageSize;
constexpr std::uint64_t kMiB2 = kBlockSize;
constexpr std::uint64_t kGiB = 1ULL << 30;

using Guest = PageTable<Stage2Geometry, LoggingTables>;
using Hyp = HypTable<LoggingTables>;

const Stage2Attributes kRam = Stage2Attributes::ram();
const Stage2Attributes kReadOnly = kRam.with_write(false);

struct Fixture {
  LoggingTables environment;
  Guest table{environment, LoggingTables::kRoot};

  Guest::Mapping at(std::uint64_t input) const { return table.query(IpaAddr(input)).value_or(Guest::Mapping{}); }
  std::uint64_t leaves(std::uint64_t first = 0, std::uint64_t size = Guest::kInputSize) {
    std::uint64_t count = 0;
    table.visit(IpaAddr(first), size, [&](IpaAddr, const Guest::Mapping&) { ++count; });
    return count;
  }
};

TEST_CASE("what is mapped is found at every address of it, and nothing beside it") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0x4000'0000), PhysAddr(0x8000'3000), 3 * kKiB4, kRam));
  CHECK_FALSE(f.table.query(IpaAddr(0x3fff'ffff)));
  CHECK_FALSE(f.table.query(IpaAddr(0x4000'3000)));
  const Guest::Mapping found = f.at(0x4000'1234);
  CHECK(found.address == PhysAddr(0x8000'4234));
  CHECK(found.base() == PhysAddr(0x8000'4000));
  CHECK(found.attributes == kRam);
  CHECK(found.level == 3);
  CHECK(f.table.tables() == 2);
}

TEST_CASE("a range is mapped with the largest leaves that input and output allow") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(kGiB - kMiB2 - kKiB4), PhysAddr(9 * kGiB - kMiB2 - kKiB4), kGiB + 2 * kMiB2 + 2 * kKiB4,
                      kRam));
  CHECK(f.at(kGiB - kMiB2 - kKiB4).level == 3);
  CHECK(f.at(kGiB - kMiB2).level == 2);
  CHECK(f.at(kGiB).level == 1);
  CHECK(f.at(2 * kGiB).level == 2);
  CHECK(f.at(2 * kGiB + kMiB2).level == 3);
  CHECK(f.leaves() == 5);
}

TEST_CASE("an output that is not aligned to the block gets pages") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0), PhysAddr(kKiB4), kMiB2, kRam));
  CHECK(f.leaves() == 512);
}

TEST_CASE("leaves are no larger than asked for") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0), PhysAddr(0), kGiB, kRam, 2));
  CHECK(f.leaves() == 512);
  CHECK(f.table.tables() == 1);
}

TEST_CASE("the root of stage 2 spans 40 bits over both its pages") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0xff'ffff'f000), PhysAddr(0xff'ffff'f000), kKiB4, kRam));
  CHECK(f.at(0xff'ffff'ffff).address == PhysAddr(0xff'ffff'ffff));
  CHECK_FALSE(f.table.query(IpaAddr(0x100'0000'0000)));
  CHECK(f.table.next_mapped(IpaAddr(0)) == 0xff'ffff'f000);
}

TEST_CASE("a bad range is refused and changes nothing") {
  Fixture f;
  const auto before = f.environment.image();
  CHECK(f.table.map(IpaAddr(0), PhysAddr(0), 0, kRam).error() == Error::kInvalid);
  CHECK(f.table.map(IpaAddr(1), PhysAddr(0), kKiB4, kRam).error() == Error::kInvalid);
  CHECK(f.table.map(IpaAddr(0), PhysAddr(1), kKiB4, kRam).error() == Error::kInvalid);
  CHECK(f.table.map(IpaAddr(0), PhysAddr(0), kKiB4, kRam, 4).error() == Error::kInvalid);
  CHECK(f.table.map(IpaAddr(0xff'ffff'f000), PhysAddr(0), 2 * kKiB4, kRam).error() == Error::kOutOfRange);
  CHECK(f.table.map(IpaAddr(0), PhysAddr(0xff'ffff'f000), 2 * kKiB4, kRam).error() == Error::kOutOfRange);
  CHECK(f.table.map(IpaAddr(~0ULL << 12), PhysAddr(0), kKiB4, kRam).error() == Error::kOutOfRange);
  CHECK(f.table.map_leaf(IpaAddr(kKiB4), PhysAddr(0), 2, kRam).error() == Error::kInvalid);
  CHECK(f.table.map_leaf(IpaAddr(1ULL << 40), PhysAddr(0), 3, kRam).error() == Error::kOutOfRange);
  CHECK(f.table.unmap(IpaAddr(0), 17).error() == Error::kInvalid);
  CHECK(f.table.split(IpaAddr(1ULL << 40)).error() == Error::kOutOfRange);
  CHECK(f.environment.image() == before);
}

TEST_CASE("mapping over something is refused and changes nothing") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(5 * kMiB2), PhysAddr(0), kKiB4, kRam));
  const auto before = f.environment.image();
  CHECK(f.table.map(IpaAddr(0), PhysAddr(kGiB), kGiB, kRam).error() == Error::kOverlap);
  CHECK(f.table.map(IpaAddr(0), PhysAddr(kGiB), 6 * kMiB2, kRam).error() == Error::kOverlap);
  CHECK(f.table.map(IpaAddr(4 * kMiB2), PhysAddr(0x1000), kMiB2 + kKiB4, kRam).error() == Error::kOverlap);
  CHECK(f.table.map_leaf(IpaAddr(5 * kMiB2), PhysAddr(kKiB4), 3, kRam).error() == Error::kOverlap);
  CHECK(f.table.map_leaf(IpaAddr(4 * kMiB2 + kMiB2), PhysAddr(0), 2, kRam).error() == Error::kOverlap);
  CHECK(f.environment.image() == before);
}

TEST_CASE("when table pages run out at any point, the tables are as they were and nothing leaks") {
  for (unsigned allowed = 0;; ++allowed) {
    Fixture f;
    REQUIRE(f.table.map(IpaAddr(kGiB), PhysAddr(kGiB), kGiB, kRam));
    f.environment.fail_after(allowed);
    const Result<> mapped = f.table.map(IpaAddr(kGiB - kKiB4), PhysAddr(0), kKiB4, kRam);
    const bool more = !mapped;
    const Result<> cut = f.table.unmap(IpaAddr(kGiB + kKiB4), kGiB - 2 * kKiB4);
    if (!cut) {
      CHECK(cut.error() == Error::kNoMemory);
      CHECK(f.at(kGiB).level == 1);
      CHECK(f.leaves(kGiB, kGiB) == 1);
    }
    CHECK(f.environment.allocated() == f.table.tables());
    if (!more && cut) break;
    REQUIRE(allowed < 20);
  }
}

TEST_CASE("the table limit is an error, not a leak") {
  Fixture f;
  f.table.set_table_limit(2);
  REQUIRE(f.table.map(IpaAddr(0), PhysAddr(0), kKiB4, kRam));
  CHECK(f.table.map(IpaAddr(kMiB2), PhysAddr(0), kKiB4, kRam).error() == Error::kLimit);
  CHECK(f.table.map(IpaAddr(kKiB4), PhysAddr(0), kKiB4, kRam));
  CHECK(f.environment.allocated() == 2);
  REQUIRE(f.table.unmap(IpaAddr(0), kMiB2));
  CHECK(f.table.map(IpaAddr(kMiB2), PhysAddr(0), kKiB4, kRam));
}

TEST_CASE("unmapping hands over each leaf after the flush, and frees the tables that are empty") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(kGiB - 2 * kKiB4), PhysAddr(3 * kGiB - 2 * kKiB4), kGiB + 4 * kKiB4, kRam));
  CHECK(f.table.tables() == 4);
  std::map<std::uint64_t, Guest::Mapping> gone;
  REQUIRE(f.table.unmap(IpaAddr(0), Guest::kInputSize, [&](IpaAddr input, const Guest::Mapping& mapping) {
    CHECK(f.environment.invalidations() == 1);
    gone.emplace(input.value(), mapping);
  }));
  CHECK(gone.size() == 5);
  CHECK(gone.at(kGiB).address == PhysAddr(3 * kGiB));
  CHECK(gone.at(kGiB).level == 1);
  CHECK(gone.at(2 * kGiB + kKiB4).address == PhysAddr(4 * kGiB + kKiB4));
  CHECK(f.table.tables() == 0);
  CHECK(f.environment.allocated() == 0);
  CHECK(f.table.next_mapped(IpaAddr(0)) == Guest::kInputSize);
}

TEST_CASE("unmapping nothing flushes nothing") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0), PhysAddr(0), kKiB4, kRam));
  REQUIRE(f.table.unmap(IpaAddr(kKiB4), kGiB));
  CHECK(f.environment.invalidations() == 0);
  CHECK(f.table.query(IpaAddr(0)));
}

TEST_CASE("unmapping part of a block splits it and leaves the rest") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0), PhysAddr(0), 2 * kGiB, kRam));
  REQUIRE(f.table.unmap(IpaAddr(kGiB - kKiB4), 2 * kKiB4));
  CHECK(f.table.tables() == 4);
  CHECK_FALSE(f.table.query(IpaAddr(kGiB - 1)));
  CHECK_FALSE(f.table.query(IpaAddr(kGiB)));
  CHECK(f.at(kGiB - kKiB4 - 1).address == PhysAddr(kGiB - kKiB4 - 1));
  CHECK(f.at(kGiB + kKiB4).address == PhysAddr(kGiB + kKiB4));
  CHECK(f.at(0).level == 2);
  // Both edges inside of one block need just one table of each level.
  Fixture g;
  REQUIRE(g.table.map(IpaAddr(0), PhysAddr(0), kGiB, kRam));
  g.table.set_table_limit(2);
  REQUIRE(g.table.unmap(IpaAddr(kMiB2 + kKiB4), kKiB4));
  CHECK(g.leaves() == 511 + 511);
}

TEST_CASE("unmapping in steps comes to the same, a bounded number of leaves at a time") {
  std::mt19937_64 random(test_seed());
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(kGiB - 3 * kMiB2), PhysAddr(kKiB4), 5 * kMiB2, kRam));
  REQUIRE(f.table.map(IpaAddr(2 * kGiB), PhysAddr(2 * kGiB), 3 * kGiB, kRam));
  REQUIRE(f.table.map(IpaAddr(6 * kGiB), PhysAddr(2 * kGiB), kGiB, kRam, 2));
  const std::uint64_t all = f.leaves();
  std::uint64_t gone = 0;
  std::uint64_t at = 0;
  while (at < Guest::kInputSize) {
    const auto budget = static_cast<unsigned>(1 + random() % 700);
    std::uint64_t step = 0;
    const auto done = f.table.unmap_some(IpaAddr(at), Guest::kInputSize - at, budget,
                                         [&](IpaAddr, const Guest::Mapping&) { ++step; });
    REQUIRE(done);
    REQUIRE(*done > 0);
    CHECK(step <= budget + 511);
    gone += step;
    at += *done;
    CHECK(f.leaves() == all - gone);
  }
  CHECK(gone == all);
  CHECK(f.table.tables() == 0);
}

TEST_CASE("protecting part of a block splits it, and changes the rights of just that part") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0), PhysAddr(0), 4 * kMiB2, kRam));
  REQUIRE(f.table.protect(IpaAddr(kMiB2 + kKiB4), 2 * kKiB4,
                          [](const Guest::Mapping& m) { return m.attributes.with_write(false); }));
  CHECK(f.at(kMiB2).attributes == kRam);
  CHECK(f.at(kMiB2 + kKiB4).attributes == kReadOnly);
  CHECK(f.at(kMiB2 + 2 * kKiB4).attributes == kReadOnly);
  CHECK(f.at(kMiB2 + 3 * kKiB4).attributes == kRam);
  CHECK(f.at(2 * kMiB2).level == 2);
}

TEST_CASE("rights change in place with one flush; a memory type is broken before it is made") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0), PhysAddr(0), 2 * kKiB4, kRam));
  f.environment.start_log();
  REQUIRE(
      f.table.protect(IpaAddr(0), 2 * kKiB4, [](const Guest::Mapping& m) { return m.attributes.with_write(false); }));
  CHECK(f.environment.story() == "S C S C D I D");
  f.environment.start_log();
  REQUIRE(f.table.protect(IpaAddr(0), 2 * kKiB4, [](const Guest::Mapping&) { return Stage2Attributes::device(); }));
  CHECK(f.environment.story() == "S0 C S0 C D I D S C S C D");
  CHECK(f.at(0).attributes == Stage2Attributes::device());
  f.environment.start_log();
  REQUIRE(f.table.protect(IpaAddr(0), 2 * kKiB4, [](const Guest::Mapping&) { return Stage2Attributes::device(); }));
  CHECK(f.environment.story().empty());
}

TEST_CASE("a fresh page costs no flush; its tables are filled before they are linked") {
  Fixture f;
  f.environment.start_log();
  REQUIRE(f.table.map_leaf(IpaAddr(0x4000'0000), PhysAddr(0x8000'0000), 3, kRam));
  CHECK(f.environment.story() == "S C S C D S C D");
  f.environment.start_log();
  REQUIRE(f.table.map_leaf(IpaAddr(0x4000'1000), PhysAddr(0x8000'1000), 3, kRam));
  CHECK(f.environment.story() == "S C S C D");  // the page, and the occupancy of its table
  CHECK(f.table.tables() == 2);
}

TEST_CASE("a table is freed after the flush, not before") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0), PhysAddr(0), kKiB4, kRam));
  f.environment.start_log();
  REQUIRE(f.table.unmap(IpaAddr(0), kKiB4));
  CHECK(f.environment.story() == "S0 C S0 C S0 C D I D F F S0 C");
}

TEST_CASE("split, then merge, is as before; each with a break") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0), PhysAddr(4 * kGiB), kGiB, kRam));
  const Entry root = *f.environment.table_at(LoggingTables::kRoot);
  f.environment.start_log();
  REQUIRE(f.table.split(IpaAddr(kMiB2 + 5), 2));
  CHECK(f.environment.story().ends_with("C S0 C D I D S C D"));
  CHECK(f.leaves() == 512);
  REQUIRE(f.table.split(IpaAddr(kMiB2 + 5)));
  CHECK(f.leaves() == 511 + 512);
  REQUIRE(f.table.split(IpaAddr(kMiB2 + 5)));  // nothing left to split
  CHECK(f.at(kMiB2 + 5).address == PhysAddr(4 * kGiB + kMiB2 + 5));
  CHECK(f.table.merge(IpaAddr(7), 1).error() == Error::kBusy);
  CHECK(f.table.merge(IpaAddr(7), 2).error() == Error::kNotFound);
  f.environment.start_log();
  REQUIRE(f.table.merge(IpaAddr(kMiB2 + 5), 2));
  CHECK(f.environment.story() == "S0 C D I D S C D F");
  REQUIRE(f.table.merge(IpaAddr(7), 1));
  CHECK(*f.environment.table_at(LoggingTables::kRoot) == root);
  CHECK(f.table.tables() == 0);
  CHECK(f.environment.allocated() == 0);
}

TEST_CASE("only what is whole, contiguous, aligned and equal merges") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0), PhysAddr(kMiB2), kMiB2, kRam, 3));
  REQUIRE(f.table.unmap(IpaAddr(kKiB4), kKiB4));
  CHECK(f.table.merge(IpaAddr(0), 2).error() == Error::kBusy);
  REQUIRE(f.table.map(IpaAddr(kKiB4), PhysAddr(0), kKiB4, kRam));
  CHECK(f.table.merge(IpaAddr(0), 2).error() == Error::kBusy);
  REQUIRE(f.table.replace(IpaAddr(kKiB4),
                          [](const Guest::Mapping&) { return Guest::Leaf{PhysAddr(kMiB2 + kKiB4), kReadOnly}; }));
  CHECK(f.table.merge(IpaAddr(0), 2).error() == Error::kBusy);
  REQUIRE(f.table.protect(IpaAddr(kKiB4), kKiB4, [](const Guest::Mapping&) { return kRam; }));
  CHECK(f.table.merge(IpaAddr(0), 2));
  CHECK(f.leaves() == 1);
  REQUIRE(f.table.map(IpaAddr(kMiB2), PhysAddr(kKiB4), kMiB2, kRam));
  CHECK(f.table.merge(IpaAddr(kMiB2), 2).error() == Error::kBusy);
}

TEST_CASE("replacing breaks, flushes, lets the caller copy, and maps anew") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(kMiB2), PhysAddr(0x1000), kKiB4, kReadOnly));
  f.environment.start_log();
  REQUIRE(f.table.replace(IpaAddr(kMiB2 + 0x123), [&](const Guest::Mapping& old) {
    CHECK(f.environment.story() == "S0 C D I D");
    CHECK(old.address == PhysAddr(0x1000));
    CHECK_FALSE(f.table.query(IpaAddr(kMiB2)));
    return Guest::Leaf{PhysAddr(0x2000), kRam};
  }));
  CHECK(f.environment.story() == "S0 C D I D S C D");
  CHECK(f.at(kMiB2 + 0x123).address == PhysAddr(0x2123));
  CHECK(f.table.replace(IpaAddr(0), [](const Guest::Mapping&) { return Guest::Leaf{}; }).error() == Error::kNotFound);
}

TEST_CASE("a walk shows every entry on the way") {
  Fixture f;
  REQUIRE(f.table.map(IpaAddr(0x4000'0000), PhysAddr(0x8000'0000), kKiB4, kRam));
  std::vector<std::pair<unsigned, Entry>> steps;
  f.table.walk(IpaAddr(0x4000'0008), [&](unsigned level, Entry entry) { steps.emplace_back(level, entry); });
  REQUIRE(steps.size() == 3);
  CHECK(steps[0].first == 1);
  CHECK(is_table(steps[1].second, 2));
  CHECK(steps[2].second == make_leaf(PhysAddr(0x8000'0000), 3, kRam.bits()));
}

TEST_CASE("HYP's table covers 4 GiB from a root of four entries, to its last byte") {
  LoggingTables environment;
  Hyp table(environment, LoggingTables::kRoot);
  const auto at = [&](std::uintptr_t address) { return table.query(HypVirtAddr(address)).value_or(Hyp::Mapping{}); };
  REQUIRE(table.map(HypVirtAddr(0), PhysAddr(0x40'0000'0000), Hyp::kInputSize, HypAttributes::boot()));
  CHECK(table.tables() == 0);
  CHECK(at(0xffff'ffff).address == PhysAddr(0x40'ffff'ffff));
  REQUIRE(table.unmap(HypVirtAddr(0xffff'f000), kPageSize));
  CHECK_FALSE(table.query(HypVirtAddr(0xffff'ffff)));
  CHECK(table.next_mapped(HypVirtAddr(0xffff'f000)) == Hyp::kInputSize);
  CHECK(at(0xffff'efff).level == 3);
  REQUIRE(table.protect(HypVirtAddr(0x1000), 0x2000, [](const Hyp::Mapping&) { return HypAttributes::text(); }));
  CHECK(at(0x1000).attributes.is_executable());
  CHECK_FALSE(at(0x1000).attributes.writable());
}

TEST_CASE("random operations agree with a plain map from page to frame") {
  std::mt19937_64 random(test_seed());
  const auto below = [&](std::uint64_t bound) { return random() % bound; };
  Fixture f;
  std::map<std::uint64_t, std::pair<std::uint64_t, Entry>> model;  // page -> frame, attributes
  constexpr std::uint64_t kPages = 3 * kPagesPerBlock;
  const std::uint64_t base = (kGiB >> kPageShift) - kPagesPerBlock;  // across a level-1 boundary
  for (unsigned operation = 0; operation < 4000; ++operation) {
    const std::uint64_t page = base + below(kPages);
    const std::uint64_t count = std::min(base + kPages - page, below(3) == 0   ? 1
                                                               : below(3) == 0 ? kPagesPerBlock
                                                                               : 1 + below(700));
    const IpaAddr ipa(page << kPageShift);
    const std::uint64_t size = count << kPageShift;
    if (below(4) == 0) f.environment.fail_after(static_cast<unsigned>(below(3)));
    switch (below(6)) {
      case 0:
      case 1: {
        const std::uint64_t frame = below(3) == 0 ? page + kPagesPerBlock * below(4) : 0x100 + below(0x10000);
        const Stage2Attributes attributes = below(2) == 0 ? kRam : kReadOnly;
        if (!f.table.map(ipa, PhysAddr(frame << kPageShift), size, attributes)) break;
        for (std::uint64_t i = 0; i < count; ++i) {
          CHECK(model.emplace(page + i, std::pair(frame + i, attributes.bits())).second);
        }
        break;
      }
      case 2: {
        std::uint64_t gone = 0;
        const auto done = f.table.unmap_some(ipa, size, static_cast<unsigned>(below(800)),
                                             [&](IpaAddr, const Guest::Mapping& m) { gone += m.size() >> kPageShift; });
        if (!done) break;
        std::uint64_t expected = 0;
        for (std::uint64_t i = 0; i < *done >> kPageShift; ++i) expected += model.erase(page + i);
        CHECK(gone == expected);
        break;
      }
      case 3: {
        const Stage2Attributes attributes = below(3) == 0 ? Stage2Attributes::device() : kRam;
        if (!f.table.protect(ipa, size, [&](const Guest::Mapping&) { return attributes; })) break;
        for (std::uint64_t i = 0; i < count; ++i) {
          if (const auto found = model.find(page + i); found != model.end()) found->second.second = attributes.bits();
        }
        break;
      }
      case 4: {
        const Result<> merged = f.table.merge(ipa, static_cast<unsigned>(1 + below(2)));
        if (!merged) CHECK((merged.error() == Error::kBusy || merged.error() == Error::kNotFound));
        break;
      }
      default: {
        const Result<> split = f.table.split(ipa, static_cast<unsigned>(2 + below(2)));
        if (!split) CHECK((split.error() == Error::kNoMemory || split.error() == Error::kNotFound));
        break;
      }
    }
    f.environment.never_fail();
    CHECK(f.environment.allocated() == f.table.tables());
    std::uint64_t pages = 0;
    f.table.visit(IpaAddr(base << kPageShift), kPages << kPageShift, [&](IpaAddr at, const Guest::Mapping& m) {
      for (std::uint64_t i = 0; i < m.size() >> kPageShift; ++i, ++pages) {
        const auto found = model.find((at.value() >> kPageShift) + i);
        REQUIRE(found != model.end());
        REQUIRE(found->second.first == (m.address.value() >> kPageShift) + i);
        REQUIRE(found->second.second == m.attributes.bits());
      }
    });
    REQUIRE(pages == model.size());
  }
  REQUIRE(f.table.unmap(IpaAddr(0), Guest::kInputSize));
  CHECK(f.environment.allocated() == 0);
}

}  // namespace
}  // namespace cadastre
