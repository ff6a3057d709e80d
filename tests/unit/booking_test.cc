#include "mm/frames/booking.hh"

#include <algorithm>
#include <memory>
#include <vector>

#include "mm/frames/cma.hh"
#include "mm/frames/ownership.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/random_runs.hh"

namespace cadastre {
namespace {

// Takes all that anybody can have, in every way.
std::vector<std::pair<Pfn, unsigned>> take_everything(PageFixture& f) {
  std::vector<std::pair<Pfn, unsigned>> taken;
  for (const unsigned order : {kMaxOrder, kPageblockOrder, 0U}) {
    for (const AllocFlags flags : {kHighmem | kMovable, kHighmem | kAtomic, kHighmem | kReclaimable, kAtomic}) {
      while (const auto block = f.pages.alloc(order, flags | kNoWarn)) taken.emplace_back(*block, order);
    }
  }
  return taken;
}

void give_back(PageFixture& f, const std::vector<std::pair<Pfn, unsigned>>& taken) {
  for (const auto& [block, order] : taken) f.pages.free(block, order);
}

TEST_CASE("booking: what is promised is there when a neighbour has taken all that he can have") {
  for (const unsigned order : {0U, 3U}) {
    PageFixture f(64 * kMiB);
    Booking booking;
    REQUIRE(f.pages.book(booking, Share::kRam, 2048, 0));
    const auto neighbour = take_everything(f);
    CHECK_GT(neighbour.size(), 20);
    f.check_audit();
    std::vector<Pfn> pages;
    while (booking.left(Share::kRam) != 0) {
      const auto page = f.pages.alloc_booked(booking, Share::kRam, order, 0);
      // Larger blocks are no promise: what is left may be scattered.
      if (!page && order != 0) break;
      REQUIRE(page);
      pages.push_back(*page);
    }
    if (order == 0) {
      CHECK_EQ(pages.size(), 2048);
      CHECK_EQ(f.pages.alloc_booked(booking, Share::kRam, 0, 0).error(), Error::kNoMemory);
    }
    f.check_audit();
    for (const Pfn page : pages) REQUIRE(f.pages.free_booked(booking, Share::kRam, page, order));
    CHECK_EQ(booking.left(Share::kRam), 2048);
    // Free again, and promised again.
    CHECK_FALSE(f.pages.alloc(0, kHighmem | kMovable | kAtomic | kNoWarn));
    f.pages.cancel(booking);
    CHECK(f.pages.alloc(0, kHighmem | kMovable | kAtomic | kNoWarn));
    give_back(f, neighbour);
    f.check_audit();
  }
}

TEST_CASE("booking: as much can be promised as is said, to the last page, and the watermarks stay") {
  PageFixture f({{.base = kGiB, .size = 32 * kMiB}, {.base = 2 * kGiB, .size = 32 * kMiB}},
                {.high_memory = PhysAddr(2 * kGiB)});
  const std::uint32_t tables = f.pages.bookable(Share::kTables);
  const std::uint32_t ram = f.pages.bookable(Share::kRam);
  CHECK_GT(ram, tables);
  Booking booking;
  CHECK_EQ(f.pages.book(booking, Share::kRam, ram + 1, 0).error(), Error::kNoMemory);
  CHECK_EQ(f.pages.book(booking, Share::kTables, tables + 1, 0).error(), Error::kNoMemory);
  CHECK_EQ(booking.left(Share::kRam) + booking.left(Share::kTables), 0);
  CHECK_EQ(f.pages.bookable(Share::kRam), ram);
  REQUIRE(f.pages.book(booking, Share::kTables, tables, 0));
  REQUIRE(f.pages.book(booking, Share::kRam, ram - tables, 0));
  CHECK_EQ(f.pages.bookable(Share::kRam), 0);
  // The hypervisor's own requests have what is above the minimum.
  CHECK(f.pages.alloc(0));
  const auto neighbour = take_everything(f);
  for (std::uint32_t i = 0; i < tables; ++i) {
    const auto table = f.pages.alloc_booked(booking, Share::kTables, 0, 0);
    REQUIRE(table);
    REQUIRE_LT(*table, frame_of(PhysAddr(2 * kGiB)));
  }
  for (std::uint32_t i = 0; i < ram - tables; ++i) REQUIRE(f.pages.alloc_booked(booking, Share::kRam, 0, 0));
  f.check_audit();
}

TEST_CASE("booking: one user's taking and freeing leaves another's promise as it is") {
  PageFixture f(32 * kMiB);
  Booking a;
  Booking b;
  const std::uint32_t half = f.pages.bookable(Share::kRam) / 2;
  REQUIRE(f.pages.book(a, Share::kRam, half, 0));
  REQUIRE(f.pages.book(b, Share::kRam, half, 0));
  std::vector<Pfn> pages;
  for (unsigned round = 0; round < 3; ++round) {
    while (const auto page = f.pages.alloc_booked(a, Share::kRam, 0, 0)) pages.push_back(*page);
    CHECK_EQ(pages.size(), half);
    CHECK_EQ(b.left(Share::kRam), half);
    f.check_audit();
    for (const Pfn page : pages) REQUIRE(f.pages.free_booked(a, Share::kRam, page, 0));
    pages.clear();
  }
  // What it did not get by its booking adds nothing to it.
  const Pfn page = *f.pages.alloc(0);
  REQUIRE(f.pages.free_booked(a, Share::kRam, page, 0));
  CHECK_EQ(a.left(Share::kRam), half);
  f.pages.cancel(a);
  CHECK_EQ(a.left(Share::kRam), 0);
  for (std::uint32_t i = 0; i < half; ++i) REQUIRE(f.pages.alloc_booked(b, Share::kRam, 0, 0));
}

TEST_CASE("booking: what a CMA area lends is not counted, and what it is not lent is there all the same") {
  constexpr std::uint32_t kArea = 4096;
  PageFixture f({{.base = kGiB, .size = 28 * kMiB}},
                {.reserve_base = kGiB + 8 * kMiB, .reserve_size = kArea * kPageSize});
  const std::uint32_t before = f.pages.bookable(Share::kRam);
  std::array<std::uint32_t, CmaArea::bitmap_words(kArea, 0)> bitmap{};
  CmaArea area;
  REQUIRE(area.init("test", f.pages, frame_of(PhysAddr(kGiB + 8 * kMiB)), kArea, 0, bitmap));
  CHECK_LE(f.pages.bookable(Share::kRam), before);
  Booking booking;
  const std::uint32_t all = f.pages.bookable(Share::kRam);
  REQUIRE(f.pages.book(booking, Share::kRam, all, 0));
  const Pfn lent = *f.pages.alloc_booked(booking, Share::kRam, 0, 0);
  REQUIRE(area.contains(lent));
  CHECK_EQ(booking.left(Share::kRam), all);
  REQUIRE(f.pages.free_booked(booking, Share::kRam, lent, 0));
  CHECK_EQ(booking.left(Share::kRam), all);
  // Not even when as many pages have been taken out of it.
  std::vector<Pfn> borrowed;
  while (booking.left(Share::kRam) == all) borrowed.push_back(*f.pages.alloc_booked(booking, Share::kRam, 0, 0));
  REQUIRE_FALSE(area.contains(borrowed.back()));
  for (const Pfn page : borrowed) {
    if (area.contains(page)) REQUIRE(f.pages.free_booked(booking, Share::kRam, page, 0));
  }
  CHECK_EQ(booking.left(Share::kRam), all - 1);
  REQUIRE(f.pages.free_booked(booking, Share::kRam, borrowed.back(), 0));
  CHECK_EQ(booking.left(Share::kRam), all);
  REQUIRE(area.alloc(0, kArea, 0));
  for (std::uint32_t i = 0; i < all; ++i) REQUIRE(f.pages.alloc_booked(booking, Share::kRam, 0, 0));
  f.check_audit();
}

TEST_CASE("booking: a range is not taken out of what is promised to others") {
  PageFixture f(32 * kMiB);
  Booking booking;
  REQUIRE(f.pages.book(booking, Share::kRam, f.pages.bookable(Share::kRam), 0));
  const Pfn first = frame_of(PhysAddr(kGiB + 8 * kMiB));
  CHECK_EQ(f.pages.alloc_contig_range(0, first, first + 4 * kPagesPerBlock, FrameState::kHyp).error(), Error::kBusy);
  CHECK_EQ(f.pages.isolate(first, first + 4 * kPagesPerBlock).error(), Error::kBusy);
  f.check_audit();
  CHECK_EQ(f.counts().free, f.pages.free_frames());
  // Its own user may collect it, and pays for it.
  const std::uint32_t left = booking.left(Share::kRam);
  REQUIRE(f.pages.isolate(first, first + 4 * kPagesPerBlock, &booking));
  f.pages.unisolate(first, first + 4 * kPagesPerBlock);
  f.pages.charge(booking, Share::kRam, 2048);
  CHECK_EQ(booking.left(Share::kRam), left - 2048);
  REQUIRE(f.pages.alloc_contig_range(0, first, first + 2048, FrameState::kHyp));
  f.check_audit();
}

// Somebody who collects a range lets go of it while others wait.
class Collector final : public OtherCpus {
 public:
  Collector(PageFixture& f, Pfn first) : f_(f), first_(first) {
    REQUIRE(f_.pages.isolate(first_, first_ + kPagesPerBlock));
    f_.pages.set_other_cpus(this);
  }
  ~Collector() { f_.pages.set_other_cpus(nullptr); }
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  void drain() override {}
  void wait() override {
    if (waited++ == 0) f_.pages.unisolate(first_, first_ + kPagesPerBlock);
  }

  unsigned waited = 0;

 private:
  PageFixture& f_;
  const Pfn first_;
};

TEST_CASE("booking: a page that was freed into a range that somebody collects is waited for") {
  PageFixture f(16 * kMiB);
  Booking booking;
  const std::uint32_t all = f.pages.bookable(Share::kRam);
  REQUIRE(f.pages.book(booking, Share::kRam, all, 0));
  while (booking.left(Share::kRam) != 0) REQUIRE(f.pages.alloc_booked(booking, Share::kRam, 0, 0));
  const auto neighbour = take_everything(f);
  // A pageblock that is all the user's.
  const FrameTable& frames = f.pages.frames();
  const auto is_users = [&](FrameIndex first) {
    for (FrameIndex i = first; i < first + kPagesPerBlock; ++i) {
      const bool is_neighbours = std::ranges::any_of(neighbour, [&](const auto& held) {
        return frames.pfn_of(i) >= held.first && frames.pfn_of(i) < held.first + (1U << held.second);
      });
      if (frames[i].state() != FrameState::kHyp || is_neighbours) return false;
    }
    return true;
  };
  FrameIndex block = 0;
  while (!is_users(block)) block += kPagesPerBlock;
  const Pfn first = frames.pfn_of(block);
  const Collector collector(f, first);
  for (std::uint32_t i = 0; i < kPagesPerBlock; ++i) REQUIRE(f.pages.free_booked(booking, Share::kRam, first + i, 0));
  for (std::uint32_t i = 0; i < kPagesPerBlock; ++i) {
    // What is free elsewhere is not enough.
    CHECK_EQ(collector.waited, f.pages.zone(0, ZoneKind::kDma).isolated_frames() != 0 ? 0 : 1);
    REQUIRE(f.pages.alloc_booked(booking, Share::kRam, 0, 0));
  }
  CHECK_EQ(collector.waited, 1);
  f.check_audit();
}

TEST_CASE("booking: pages come a batch at a time, and the rest of it is promised as before, to its user alone") {
  PageFixture f(64 * kMiB);
  const Zone& zone = f.pages.zone(0, ZoneKind::kDma);
  Booking booking;
  const std::uint32_t all = f.pages.bookable(Share::kRam);
  REQUIRE(f.pages.book(booking, Share::kRam, all, 0));
  const std::uint32_t free = f.pages.free_frames();
  const Pfn page = *f.pages.alloc_booked(booking, Share::kRam, 0, 0);
  const std::uint32_t batch = free - f.pages.free_frames();
  CHECK_GT(batch, 8);
  CHECK_EQ(zone.promised(), all - batch);
  CHECK_EQ(booking.left(Share::kRam), all - 1);
  f.check_audit();
  const auto neighbour = take_everything(f);
  const std::uint32_t before = f.pages.free_frames();
  std::vector<Pfn> pages = {page};
  for (std::uint32_t i = 1; i < batch; ++i) {
    pages.push_back(*f.pages.alloc_booked(booking, Share::kRam, 0, 0));
    CHECK_EQ(booking.left(Share::kRam), all - 1 - i);
  }
  // From its own, whoever lacks memory meanwhile.
  CHECK_EQ(f.pages.free_frames(), before);
  std::ranges::sort(pages);
  CHECK(std::ranges::adjacent_find(pages) == pages.end());
  for (const Pfn each : pages) REQUIRE(f.pages.free_booked(booking, Share::kRam, each, 0));
  CHECK_EQ(zone.promised(), all);
  CHECK_EQ(booking.left(Share::kRam), all);
  give_back(f, neighbour);
  f.pages.drain(0);
  f.check_audit();
}

TEST_CASE("booking: a page that is at hand is nobody's to free, and is free when the booking is cancelled") {
  PageFixture f(64 * kMiB);
  const std::uint32_t free = f.pages.free_frames();
  Booking booking;
  REQUIRE(f.pages.book(booking, Share::kRam, 1000, 0));
  const Pfn page = *f.pages.alloc_booked(booking, Share::kRam, 0, 0);
  unsigned at_hand = 0;
  FrameTable& frames = f.pages.frames();
  for (FrameIndex i = 0; i < frames.count(); ++i) {
    const FrameWord word = frames[i].word();
    if (word.state != FrameState::kHyp || word.references != 0) continue;
    ++at_hand;
    CHECK_EQ(f.pages.try_free(frames.pfn_of(i), 0).error(), Error::kCorrupt);
    CHECK_EQ(f.pages.free_booked(booking, Share::kRam, frames.pfn_of(i), 0).error(), Error::kCorrupt);
  }
  CHECK_GT(at_hand, 8);
  CHECK_EQ(booking.left(Share::kRam), 999);
  f.pages.cancel(booking);
  CHECK_EQ(booking.left(Share::kRam), 0);
  CHECK_EQ(f.pages.zone(0, ZoneKind::kDma).promised(), 0);
  f.pages.free(page, 0);
  f.pages.drain(0);
  CHECK_EQ(f.pages.free_frames(), free);
  f.check_audit();
}

TEST_CASE("booking: what is at hand goes back for a larger block that lacks it, and when it is taken otherwise") {
  PageFixture f(64 * kMiB);
  Booking booking;
  REQUIRE(f.pages.book(booking, Share::kRam, kPagesPerBlock, 0));
  const Pfn page = *f.pages.alloc_booked(booking, Share::kRam, 0, 0);
  REQUIRE(f.pages.free_booked(booking, Share::kRam, page, 0));
  const Pfn block = *f.pages.alloc_booked(booking, Share::kRam, kPageblockOrder, 0);
  CHECK_EQ(booking.left(Share::kRam), 0);
  CHECK_EQ(f.pages.alloc_booked(booking, Share::kRam, 0, 0).error(), Error::kNoMemory);
  REQUIRE(f.pages.free_booked(booking, Share::kRam, block, kPageblockOrder));
  f.check_audit();
  REQUIRE(f.pages.alloc_booked(booking, Share::kRam, 0, 0));
  f.pages.charge(booking, Share::kRam, kPagesPerBlock - 1);
  CHECK_EQ(booking.left(Share::kRam), 0);
  CHECK_EQ(f.pages.zone(0, ZoneKind::kDma).promised(), 0);
  f.check_audit();
}

TEST_CASE("booking: what was not taken out of it is no reason to promise more, though pages are at hand") {
  PageFixture f(64 * kMiB);
  Booking booking;
  REQUIRE(f.pages.book(booking, Share::kRam, 1000, 0));
  const Pfn page = *f.pages.alloc_booked(booking, Share::kRam, 0, 0);
  const Pfn other = *f.pages.alloc(0);
  REQUIRE(f.pages.free_booked(booking, Share::kRam, page, 0));
  REQUIRE(f.pages.free_booked(booking, Share::kRam, other, 0));
  CHECK_EQ(booking.left(Share::kRam), 1000);
}

// One to four users with bookings, and a neighbour that takes and frees whatever it can, on any CPU; in half of the runs, requests
// that fail. A promised page is always there, and under no lock are fewer frames free than are promised.
class BookingDriver {
 public:
  explicit BookingDriver(model::Decide decide)
      : decide_(std::move(decide)),
        f_(std::make_unique<PageFixture>(
            std::vector<FakeBank>{{.base = kGiB, .size = 16 * kMiB}, {.base = 2 * kGiB, .size = 32 * kMiB, .nid = 1}},
            PageFixture::Options{.high_memory = PhysAddr(2 * kGiB)})) {
    is_failing_ = decide_(2) == 0;
    if (is_failing_) f_->pages.set_fault_injector(&failing_);
    const auto count = 1 + decide_(4);
    for (std::uint64_t i = 0; i < count; ++i) {
      User& user = *users_.emplace_back(std::make_unique<User>());
      book(user, Share::kTables, static_cast<std::uint32_t>(decide_(64)));
    }
    for (auto& user : users_) {
      const std::uint32_t most = f_->pages.bookable(Share::kRam);
      book(*user, Share::kRam, static_cast<std::uint32_t>(decide_(most + 1)));
    }
  }

  void step() {
    FakeMachine::current_cpu = static_cast<unsigned>(decide_(4));
    may_fail_ = is_failing_ && decide_(8) == 0;
    if (may_fail_) failing_.arm(static_cast<std::uint32_t>(decide_(3)));
    operate();
    failing_.disarm();
    may_fail_ = false;
    FakeMachine::current_cpu = 0;
    check_promises();
  }
  void finish() {
    f_->check_audit();
    for (auto& user : users_) {
      while (left(*user) != 0) take(*user);
    }
    check_promises();
    f_->check_audit();
    for (auto& user : users_) end(*user);
    for (const Held& held : neighbours_) f_->pages.free(held.block, held.order);
    for (unsigned cpu = 0; cpu < 4; ++cpu) f_->pages.drain(cpu);
    f_->check_audit();
    require(f_->pages.free_frames() == free_, "frames were lost");
  }

 private:
  void operate() {
    switch (decide_(8)) {
      case 0:
        return neighbour_takes();
      case 1:
        return neighbour_frees();
      case 2:
      case 3:
        return free_one(*users_[at(users_.size())]);
      case 4:
        if (decide_(64) == 0) return end(*users_[at(users_.size())]);
        [[fallthrough]];
      default:
        return take(*users_[at(users_.size())]);
    }
  }
  [[nodiscard]] std::size_t at(std::size_t count) { return static_cast<std::size_t>(decide_(count)); }

  struct Held {
    Pfn block;
    unsigned order = 0;
    Share share = Share::kRam;
  };
  struct User {
    Booking booking;
    std::array<std::uint32_t, 2> promised{};
    std::array<std::uint32_t, 2> holds{};
    std::vector<Held> held;
  };
  static unsigned index(Share share) { return static_cast<unsigned>(share); }
  static void require(bool holds, const char* what) {
    if (!holds) throw model::Violation{what};
  }
  static std::uint32_t left(const User& user) {
    return user.booking.left(Share::kRam) + user.booking.left(Share::kTables);
  }

  void book(User& user, Share share, std::uint32_t frames) {
    const bool fits = frames <= f_->pages.bookable(share);
    require(f_->pages.book(user.booking, share, frames, 0).has_value() == fits, "booked against what is bookable");
    if (fits) user.promised[index(share)] += frames;
  }
  void take(User& user) {
    const Share share = decide_(8) == 0 ? Share::kTables : Share::kRam;
    const unsigned order = share == Share::kRam && decide_(4) == 0 ? static_cast<unsigned>(decide_(kMaxOrder + 1)) : 0;
    const std::uint32_t left = user.promised[index(share)] - user.holds[index(share)];
    require(user.booking.left(share) == left, "a promise that counts otherwise");
    const auto block = f_->pages.alloc_booked(user.booking, share, order, 0);
    if (block || !may_fail_)
      require(order != 0 || block.has_value() == (left != 0), "a promise was not kept, or more was given");
    if (!block) return;
    require(left >= 1U << order, "more than was promised");
    user.holds[index(share)] += 1U << order;
    user.held.push_back({*block, order, share});
  }
  void free_one(User& user) {
    if (user.held.empty()) return;
    std::swap(user.held[at(user.held.size())], user.held.back());
    const Held held = user.held.back();
    user.held.pop_back();
    require(f_->pages.free_booked(user.booking, held.share, held.block, held.order).has_value(), "a free was refused");
    user.holds[index(held.share)] -= 1U << held.order;
  }
  void end(User& user) {
    while (!user.held.empty()) free_one(user);
    f_->pages.cancel(user.booking);
    user.promised = {};
    f_->check_audit();
  }
  void neighbour_takes() {
    const std::uint64_t count = decide_(16) == 0 ? 4096 : 1 + decide_(64);
    const auto order = static_cast<unsigned>(decide_(kMaxOrder + 1));
    AllocFlags flags = kNoWarn;
    for (const AllocFlags flag : {kHighmem, kMovable, kReclaimable, kAtomic, kCold, kNoRetry}) {
      if (decide_(2) == 0) flags = flags | flag;
    }
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto block = f_->pages.alloc(order, flags);
      if (!block) break;
      neighbours_.push_back({.block = *block, .order = order});
    }
  }
  void neighbour_frees() {
    for (std::uint64_t count = decide_(256); count != 0 && !neighbours_.empty(); --count) {
      std::swap(neighbours_[at(neighbours_.size())], neighbours_.back());
      f_->pages.free(neighbours_.back().block, neighbours_.back().order);
      neighbours_.pop_back();
    }
  }
  // In every zone, and no more than the users' rest altogether.
  void check_promises() NO_THREAD_SAFETY_ANALYSIS {
    std::uint32_t promised = 0;
    for (NodeId nid = 0; nid < 2; ++nid) {
      for (const ZoneKind kind : {ZoneKind::kDma, ZoneKind::kNormal, ZoneKind::kHighmem}) {
        const Zone& zone = f_->pages.zone(nid, kind);
        require(zone.promised() <= zone.free_frames(), "more is promised than is free");
        promised += zone.promised();
      }
    }
    std::uint32_t left = 0;
    for (const auto& user : users_) left += BookingDriver::left(*user);
    require(promised <= left, "promised to nobody");
  }

  model::Decide decide_;
  std::unique_ptr<PageFixture> f_;
  const std::uint32_t free_ = f_->pages.free_frames();
  FaultInjector failing_;
  bool is_failing_ = false;  // or pages come in batches
  bool may_fail_ = false;
  std::vector<std::unique_ptr<User>> users_;
  std::vector<Held> neighbours_;
};

TEST_CASE("booking: random users beside a greedy neighbour never miss a page that is promised to them") {
  run_randomly(random_operations(200'000), 2000, [](const model::Decide& decide) { return BookingDriver(decide); });
}

}  // namespace
}  // namespace cadastre
