#include "mm/objects/virtual_areas.hh"

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr std::uintptr_t kStart = 0xc000'0000;

struct Areas : VirtualAreas {
  explicit Areas(std::size_t pages) : VirtualAreas(HypVirtAddr(kStart), HypVirtAddr(kStart + pages * kPageSize)) {}
  // The page of the region at which an area of so many pages lands.
  std::optional<std::size_t> put(VirtualArea& area, std::size_t pages, std::size_t align = 1) {
    if (!insert(area, pages * kPageSize, align * kPageSize)) return std::nullopt;
    return (area.start().value() - kStart) / kPageSize;
  }
};

TEST_CASE("areas: each has a page after it that is nobody's, the last one too") {
  Areas areas(8);
  VirtualArea a;
  VirtualArea b;
  VirtualArea c;
  CHECK(areas.empty());
  CHECK_EQ(areas.put(a, 2), 0);
  CHECK_EQ(areas.put(b, 3), 3);
  CHECK_FALSE(areas.put(c, 1));  // a page is left, and none for its guard
  CHECK_EQ(areas.starting_at(HypVirtAddr(kStart)), &a);
  CHECK_EQ(areas.starting_at(HypVirtAddr(kStart + 1)), nullptr);
  CHECK_EQ(areas.around(HypVirtAddr(kStart + 3 * kPageSize - 1)), &a);
  CHECK_EQ(areas.around(HypVirtAddr(kStart + 3 * kPageSize)), &b);
  CHECK_EQ(areas.around(HypVirtAddr(kStart + 7 * kPageSize)), nullptr);
  CHECK_EQ(areas.around(HypVirtAddr(kStart - 1)), nullptr);
  areas.remove(a);
  areas.remove(b);
  CHECK(areas.empty());
  CHECK_EQ(areas.put(c, 7), 0);
}

TEST_CASE("areas: the lowest gap that fits is taken, an alignment permitting") {
  Areas areas(64);
  VirtualArea a;
  VirtualArea b;
  VirtualArea c;
  VirtualArea d;
  VirtualArea e;
  CHECK_EQ(areas.put(a, 4), 0);
  CHECK_EQ(areas.put(b, 1), 5);
  CHECK_EQ(areas.put(c, 1), 7);
  areas.remove(b);
  CHECK_EQ(areas.put(d, 2), 9);      // two pages are free at 5: one too few
  CHECK_EQ(areas.put(b, 1, 8), 16);  // at 5 and at 12 there is room, but not at a multiple of 8
  CHECK_EQ(areas.put(e, 1, 2), 12);
  areas.remove(a);
  CHECK_EQ(areas.put(a, 6), 0);
}

TEST_CASE("areas: what makes no sense is refused") {
  Areas areas(16);
  VirtualArea area;
  CHECK_EQ(areas.insert(area, 0).error(), Error::kInvalid);
  CHECK_EQ(areas.insert(area, 100).error(), Error::kInvalid);
  CHECK_EQ(areas.insert(area, kPageSize, 0).error(), Error::kInvalid);
  CHECK_EQ(areas.insert(area, kPageSize, 3 * kPageSize).error(), Error::kInvalid);
  CHECK_EQ(areas.insert(area, kPageSize, 64).error(), Error::kInvalid);
  CHECK_EQ(areas.insert(area, std::size_t{0} - kPageSize).error(), Error::kLimit);
  CHECK_EQ(areas.insert(area, kPageSize, ~(~std::size_t{0} >> 1U)).error(), Error::kLimit);
  CHECK(areas.empty());
}

TEST_CASE("areas: random ranges agree with a map that is searched page by page") {
  constexpr std::size_t kPages = 600;
  Areas areas(kPages);
  std::mt19937_64 random(test_seed());
  const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
  struct Known {
    std::size_t pages;
    std::unique_ptr<VirtualArea> area;
  };
  std::map<std::size_t, Known> model;  // by first page
  for (unsigned step = 0; step < 6000; ++step) {
    if (below(1000) < ((step / 1500) % 2 == 0 ? 650U : 400U)) {
      const std::size_t pages = 1 + below(below(8) == 0 ? 60 : 6);
      const std::size_t align = std::size_t{1} << below(below(2) == 0 ? 1 : 6);
      std::optional<std::size_t> expected;
      std::size_t gap = 0;
      const auto try_gap = [&](std::size_t end) {
        // The region starts at a multiple of every alignment here.
        const std::size_t at = (gap + align - 1) / align * align;
        if (!expected && at + pages + 1 <= end) expected = at;
      };
      for (const auto& [first, known] : model) {
        try_gap(first);
        gap = first + known.pages + 1;
      }
      try_gap(kPages);
      auto area = std::make_unique<VirtualArea>();
      const auto place = areas.put(*area, pages, align);
      REQUIRE(place == expected);
      if (place) model.emplace(*place, Known{pages, std::move(area)});
    } else if (!model.empty()) {
      const auto victim = std::next(model.begin(), static_cast<std::ptrdiff_t>(below(model.size())));
      areas.remove(*victim->second.area);
      model.erase(victim);
    }
    const std::size_t page = below(kPages);
    const auto after = model.upper_bound(page);
    const VirtualArea* around = nullptr;
    if (after != model.begin()) {
      const auto& [first, known] = *std::prev(after);
      if (page <= first + known.pages) around = known.area.get();
    }
    REQUIRE(areas.around(HypVirtAddr(kStart + page * kPageSize + below(kPageSize))) == around);
    if (step % 100 != 0) continue;
    auto known = model.begin();
    areas.for_each([&](const VirtualArea& area) {
      REQUIRE(known != model.end());
      REQUIRE(&area == known->second.area.get());
      REQUIRE(area.size() == known->second.pages * kPageSize);
      ++known;
    });
    REQUIRE(known == model.end());
  }
  for (auto& [first, known] : model) areas.remove(*known.area);
  CHECK(areas.empty());
}

}  // namespace
}  // namespace cadastre
