#include "mm/frames/booking.hh"

#include <array>
#include <atomic>
#include <random>
#include <vector>

#include "tests/unit/cpu_threads.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/random_runs.hh"

namespace cadastre {
namespace {

constexpr unsigned kCpus = 4;
constexpr unsigned kUsers = 2;

TEST_CASE(
    "booking: on other CPUs somebody takes all that he can have, and collects ranges; no promised page is missed") {
  PageFixture f(32 * kMiB);
  std::array<Booking, kUsers> bookings;
  const std::uint32_t share = f.pages.bookable(Share::kRam) / kUsers;
  for (Booking& booking : bookings) REQUIRE(f.pages.book(booking, Share::kRam, share, 0));
  std::atomic<unsigned> missed = 0;
  std::atomic<unsigned> finished = 0;
  const std::uint64_t operations = random_operations(200'000);
  const auto user = [&](unsigned cpu) {
    std::minstd_rand random(static_cast<unsigned>(test_seed()) + cpu);
    std::vector<Pfn> held;
    for (std::uint64_t done = 0; done < operations;) {
      // All of it, then some of it back.
      while (held.size() < share) {
        const auto page = f.pages.alloc_booked(bookings[cpu], Share::kRam, 0, 0);
        if (!page) {
          ++missed;
          break;
        }
        held.push_back(*page);
        ++done;
      }
      for (std::uint64_t count = 1 + random() % share; count != 0 && !held.empty(); --count) {
        std::swap(held[random() % held.size()], held.back());
        if (!f.pages.free_booked(bookings[cpu], Share::kRam, held.back(), 0)) ++missed;
        held.pop_back();
      }
    }
    for (const Pfn page : held) {
      if (!f.pages.free_booked(bookings[cpu], Share::kRam, page, 0)) ++missed;
    }
    ++finished;
  };
  const auto neighbour = [&](unsigned cpu) {
    std::minstd_rand random(static_cast<unsigned>(test_seed()) + cpu);
    std::vector<Pfn> held;
    while (finished < kUsers) {
      while (const auto page = f.pages.alloc(0, kAtomic | kMovable | kNoWarn)) held.push_back(*page);
      while (held.size() > random() % 64) {
        f.pages.free(held.back(), 0);
        held.pop_back();
      }
      const Pfn first = frame_of(PhysAddr(kGiB)) + kPagesPerBlock * (random() % 15);
      if (f.pages.isolate(first, first + kPagesPerBlock)) {
        spin_wait();
        f.pages.unisolate(first, first + kPagesPerBlock);
      }
      const std::uint32_t count = 1 + random() % 64;
      if (f.pages.alloc_contig_range(first, first + count, FrameState::kHyp)) {
        if (!f.pages.free_contig_range(first, first + count)) ++missed;
      }
    }
    for (const Pfn page : held) f.pages.free(page, 0);
    f.pages.drain(cpu);
  };
  run_on_cpus(kCpus, [&](unsigned cpu) { cpu < kUsers ? user(cpu) : neighbour(cpu); });
  CHECK_EQ(missed, 0);
  f.check_audit();
  for (const Booking& booking : bookings) CHECK_EQ(booking.left(Share::kRam), share);
}

TEST_CASE(
    "booking: CPUs of one user share what is promised to it to the last page, while blocks and somebody else want the "
    "rest") {
  constexpr unsigned kOwn = 3;  // CPUs of the user; the last one is its neighbour's
  PageFixture f(32 * kMiB);
  Booking booking;
  const std::uint32_t all = f.pages.bookable(Share::kRam);
  REQUIRE(f.pages.book(booking, Share::kRam, all, 0));
  std::atomic<unsigned> missed = 0;
  std::atomic<unsigned> finished = 0;
  std::atomic<std::uint32_t> taken = 0;
  const std::uint64_t operations = random_operations(200'000);
  // A page is claimed before it is asked for: all of them together never ask for more than there is.
  const auto claim = [&](std::uint32_t frames) {
    if (taken.fetch_add(frames) + frames <= all) return true;
    taken.fetch_sub(frames);
    return false;
  };
  struct Held {
    Pfn block;
    unsigned order;
  };
  const auto user = [&](unsigned cpu) {
    std::minstd_rand random(static_cast<unsigned>(test_seed()) + cpu);
    std::vector<Held> held;
    const auto let_go = [&] {
      const Held last = held.back();
      held.pop_back();
      if (!f.pages.free_booked(booking, Share::kRam, last.block, last.order)) ++missed;
      taken.fetch_sub(1U << last.order);
    };
    for (std::uint64_t done = 0; done < operations; ++done) {
      const unsigned order = random() % 64 == 0 ? 1 + random() % kMaxOrder : 0;
      if (claim(1U << order)) {
        const auto block = f.pages.alloc_booked(booking, Share::kRam, order, 0);
        if (block) {
          held.push_back({.block = *block, .order = order});
        } else {
          taken.fetch_sub(1U << order);
          if (order == 0) ++missed;
        }
      }
      // Often there is nothing left, or nothing taken.
      if (random() % 2048 == 0) {
        while (!held.empty()) let_go();
      } else if (random() % 4 == 0 && !held.empty()) {
        std::swap(held[random() % held.size()], held.back());
        let_go();
      }
    }
    while (!held.empty()) let_go();
    ++finished;
  };
  const auto neighbour = [&](unsigned cpu) {
    std::vector<Pfn> held;
    while (finished < kOwn) {
      while (const auto page = f.pages.alloc(0, kAtomic | kMovable | kNoWarn)) held.push_back(*page);
      for (const Pfn page : held) f.pages.free(page, 0);
      held.clear();
    }
    f.pages.drain(cpu);
  };
  run_on_cpus(kCpus, [&](unsigned cpu) { cpu < kOwn ? user(cpu) : neighbour(cpu); });
  CHECK_EQ(missed, 0);
  CHECK_EQ(booking.left(Share::kRam), all);
  f.check_audit();
  f.pages.cancel(booking);
  CHECK_EQ(f.pages.bookable(Share::kRam), all);
}

}  // namespace
}  // namespace cadastre
