#include "mm/frames/zone.hh"

#include <array>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "mm/frames/cma.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

// The zones of a machine, by what they manage; no memory is behind them.
struct Zones {
  explicit Zones(std::initializer_list<std::pair<unsigned, std::uint32_t>> managed) {
    for (unsigned id = 0; id < kMaxZones; ++id) {
      zones[id].init(frames, static_cast<NodeId>(id / kZoneKinds), static_cast<ZoneKind>(id % kZoneKinds));
    }
    for (const auto& [id, count] : managed) zones[id].add_managed(count);
    set_watermarks(zones);
  }
  void check_marks(unsigned id, std::uint32_t min, std::uint32_t low, std::uint32_t high) const {
    CAPTURE(id);
    CHECK_EQ(zones[id].watermarks().min, min);
    CHECK_EQ(zones[id].watermarks().low, low);
    CHECK_EQ(zones[id].watermarks().high, high);
  }

  FrameTable frames;
  std::array<Zone, kMaxZones> zones{};
};

constexpr unsigned kDma = 0;
constexpr unsigned kNormal = 1;
constexpr unsigned kHighmem = 2;
constexpr unsigned kOtherNode = kZoneKinds;
constexpr std::uint32_t kPagesPerGiB = kGiB / kPageSize;

TEST_CASE("zones: low memory keeps four times the root of its kilobytes free, each zone its part") {
  Zones({{kDma, kPagesPerGiB}}).check_marks(kDma, 1024, 1286, 1548);  // 4 * 1024 KiB
  const Zones two({{kDma, kPagesPerGiB / 4}, {kOtherNode + kNormal, kPagesPerGiB / 4 * 3}});
  two.check_marks(kDma, 256, 321, 386);
  two.check_marks(kOtherNode + kNormal, 768, 964, 1160);
  // 128 KiB at least, but no more than an eighth of the zone.
  Zones({{kDma, 250}}).check_marks(kDma, 31, 38, 45);
  Zones({{kDma, 256}}).check_marks(kDma, 32, 40, 48);
  Zones({{kDma, 1024}}).check_marks(kDma, 64, 80, 96);
  // 8 TiB would keep more than 256 MiB.
  Zones({{kNormal, std::uint32_t{1} << 31U}}).check_marks(kNormal, 65536, 65536 + 2147483, 65536 + 2 * 2147483);
}

TEST_CASE("zones: high memory keeps a token amount free, and adds nothing to what low memory keeps") {
  const Zones zones({{kDma, kPagesPerGiB}, {kHighmem, 5 * kPagesPerGiB}, {kOtherNode + kHighmem, 65536}});
  zones.check_marks(kDma, 1024, 1286, 1548);
  zones.check_marks(kHighmem, 128, 128 + 1310, 128 + 2 * 1310);
  zones.check_marks(kOtherNode + kHighmem, 64, 64 + 65, 64 + 2 * 65);
  Zones({{kHighmem, 2048}}).check_marks(kHighmem, 32, 40, 48);
  Zones({{kDma, kPagesPerGiB}}).check_marks(kHighmem, 0, 0, 0);
}

TEST_CASE("zones: a zone keeps a part of its node's zones above it from those who could have had these") {
  const Zones machine({{kDma, 1000}, {kNormal, 25600}, {kHighmem, 51200}, {kOtherNode + kHighmem, 320}});
  const auto& zones = machine.zones;
  CHECK_EQ(zones[kDma].reserve(ZoneKind::kDma), 0);
  CHECK_EQ(zones[kDma].reserve(ZoneKind::kNormal), 25600 / 256);
  CHECK_EQ(zones[kDma].reserve(ZoneKind::kHighmem), (25600 + 51200) / 256);
  CHECK_EQ(zones[kNormal].reserve(ZoneKind::kDma), 0);
  CHECK_EQ(zones[kNormal].reserve(ZoneKind::kNormal), 0);
  CHECK_EQ(zones[kNormal].reserve(ZoneKind::kHighmem), 51200 / 32);
  CHECK_EQ(zones[kHighmem].reserve(ZoneKind::kHighmem), 0);
  CHECK_EQ(zones[kOtherNode + kNormal].reserve(ZoneKind::kHighmem), 320 / 32);
}

TEST_CASE("zones: a request must leave the mark and the reserve, and only a movable one counts CMA's pages") {
  constexpr std::uint32_t kCmaPages = 8 * kMiB / kPageSize;
  constexpr std::uint64_t kCmaBase = kGiB + 16 * kMiB;
  PageFixture f({{.base = kGiB, .size = 48 * kMiB}}, {.reserve_base = kCmaBase, .reserve_size = 8 * kMiB});
  std::array<std::uint32_t, CmaArea::bitmap_words(kCmaPages, 0)> bitmap{};
  CmaArea area;
  REQUIRE(area.init("test", f.pages, frame_of(PhysAddr(kCmaBase)), kCmaPages, 0, bitmap));
  Zone& zone = f.pages.zone(0, ZoneKind::kDma);
  REQUIRE_EQ(zone.free_cma_frames(), kCmaPages);
  zone.set_reserve(ZoneKind::kHighmem, 100);
  const std::uint32_t all = zone.free_frames();
  const std::uint32_t own = all - kCmaPages;
  const auto highest_mark = [&](std::uint32_t mark, unsigned order, ZoneKind highest, AllocFlags flags) {
    return zone.is_above(mark, order, highest, flags) && !zone.is_above(mark + 1, order, highest, flags);
  };
  CHECK(highest_mark(own - 1, 0, ZoneKind::kDma, {}));
  CHECK(highest_mark(own - 32, 5, ZoneKind::kDma, {}));
  CHECK(highest_mark(all - 1, 0, ZoneKind::kDma, kMovable));
  CHECK(highest_mark(all - 104, 2, ZoneKind::kHighmem, kMovable));
}

TEST_CASE("zones: RAM is present from its first frame to its last, whatever the order and the holes") {
  Zone zone;
  zone.add_present(Pfn(500), Pfn(600));
  zone.add_present(Pfn(100), Pfn(150));
  zone.add_present(Pfn(300), Pfn(301));
  CHECK_EQ(zone.start(), Pfn(100));
  CHECK_EQ(zone.end(), Pfn(600));
  CHECK_EQ(zone.spanned(), 500);
  CHECK_EQ(zone.present(), 151);
}

}  // namespace
}  // namespace cadastre
