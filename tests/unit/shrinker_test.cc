#include "mm/frames/shrinker.hh"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

// Has so many pages, and gives them when asked.
class Hoard final : public Shrinker {
 public:
  explicit Hoard(std::uint32_t pages) : pages_(pages) {}
  [[nodiscard]] std::string_view name() const override { return "hoard"; }
  [[nodiscard]] std::uint32_t count() override { return pages_; }
  std::uint32_t scan(std::uint32_t pages) override {
    asked_.push_back(pages);
    if (inner_ != nullptr) nested_ += inner_->shrink(1000);
    const std::uint32_t freed = std::min(pages, pages_);
    pages_ -= freed;
    return freed;
  }

  std::uint32_t pages_;
  std::vector<std::uint32_t> asked_;
  ShrinkerList* inner_ = nullptr;
  std::uint32_t nested_ = 0;
};

TEST_CASE("shrinkers: each is asked for its share, rounded up, and the empty one not at all") {
  ShrinkerList list;
  CHECK_EQ(list.shrink(10), 0);
  Hoard small(1);
  Hoard large(300);
  Hoard empty(0);
  for (Hoard* hoard : {&small, &large, &empty}) list.add(*hoard);
  CHECK_EQ(list.shrink(0), 0);
  CHECK(large.asked_.empty());
  CHECK_EQ(list.shrink(100), 101);
  CHECK(small.asked_ == std::vector<std::uint32_t>{1});
  CHECK(large.asked_ == std::vector<std::uint32_t>{100});
  CHECK(empty.asked_.empty());
  CHECK_EQ(list.shrink(5000), 200);
  CHECK_EQ(list.shrink(5000), 0);
}

TEST_CASE("shrinkers: one that is removed is not asked any more, wherever in the list it was") {
  for (unsigned removed = 0; removed < 3; ++removed) {
    ShrinkerList list;
    std::array<Hoard, 3> hoards{Hoard(10), Hoard(10), Hoard(10)};
    for (Hoard& hoard : hoards) list.add(hoard);
    list.remove(hoards[removed]);
    CHECK_EQ(list.shrink(100), 20);
    for (unsigned i = 0; i < 3; ++i) CHECK_EQ(hoards[i].asked_.empty(), i == removed);
    list.remove(hoards[removed]);
    list.add(hoards[removed]);
    CHECK_EQ(list.shrink(100), 10);
  }
}

TEST_CASE("shrinkers: a scan that comes back gets nothing, and the next request is served") {
  ShrinkerList list;
  Hoard hoard(30);
  hoard.inner_ = &list;
  list.add(hoard);
  CHECK_EQ(list.shrink(10), 10);
  CHECK_EQ(hoard.asked_.size(), 1);
  CHECK_EQ(hoard.nested_, 0);
  CHECK_EQ(list.shrink(10), 10);
}

}  // namespace
}  // namespace cadastre
