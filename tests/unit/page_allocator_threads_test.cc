#include <array>
#include <atomic>
#include <cstring>
#include <random>
#include <vector>

#include "mm/frames/cma.hh"
#include "mm/frames/ownership.hh"
#include "mm/frames/page_allocator.hh"
#include "tests/unit/cpu_threads.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/random_runs.hh"
#include "tests/unit/shared_guest.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr unsigned kCpus = 4;

TEST_CASE("pages: CPUs allocate and free blocks of all orders at once, each other's too, and nothing is lost") {
  PageFixture f({{.base = kGiB, .size = 96 * kMiB}}, {.high_memory = PhysAddr(kGiB + 64 * kMiB)});
  const std::uint32_t free = f.counts().free;
  // A block travels from the CPU that got it to one that frees it, with a mark that says whose it is.
  std::array<std::atomic<std::uint32_t>, 48> exchange{};
  std::atomic<unsigned> wrong = 0;
  const auto give_back = [&](std::uint32_t packed) {
    if (packed == 0) return;
    const Pfn block(packed >> 4U);
    if (first_word(f, block) != packed) ++wrong;
    f.pages.free(block, packed & 0xfU);
  };
  const std::uint64_t operations = random_operations(400'000) / kCpus;
  run_on_cpus(kCpus, [&](unsigned cpu) {
    std::mt19937_64 random(test_seed() + cpu);
    for (std::uint64_t i = 0; i < operations; ++i) {
      const unsigned order = random() % 8 == 0 ? static_cast<unsigned>(random() % (kMaxOrder + 1)) : 0;
      const AllocFlags where = random() % 2 == 0 ? kHighmem | kMovable : AllocFlags{};
      const AllocFlags heat = random() % 8 == 0 ? kCold : AllocFlags{};
      const auto block = f.pages.alloc(order, where | heat | kNoWarn);
      if (!block) {
        give_back(exchange[random() % exchange.size()].exchange(0));
        continue;
      }
      const std::uint32_t packed = block->value() << 4U | order;
      first_word(f, *block) = packed;
      give_back(exchange[random() % exchange.size()].exchange(packed));
    }
    f.pages.drain(cpu);
  });
  for (auto& slot : exchange) give_back(slot.load());
  CHECK_EQ(wrong, 0);
  CHECK_EQ(f.counts().free, free);
}

TEST_CASE("cma: CPUs that allocate at once all get their pages while the area has room for them") {
  // A pageblock that all want a piece of; the same, half of it lent; larger pieces. However the others' pieces lie, what is
  // left of the area has a gap for each.
  struct Case {
    std::uint32_t pages;
    std::uint32_t lent;
    std::array<std::uint32_t, kCpus> wants;
  };
  constexpr std::uint64_t kAreaBase = kGiB + 16 * kMiB;
  for (const Case& c :
       {Case{.pages = 512, .lent = 0, .wants = {1, 1, 1, 1}}, Case{.pages = 512, .lent = 256, .wants = {1, 3, 40, 100}},
        Case{.pages = 2048, .lent = 1000, .wants = {1, 256, 128, 1}}}) {
    CAPTURE(c.pages);
    CAPTURE(c.lent);
    const std::uint64_t area_size = c.pages * kPageSize;
    PageFixture f({{.base = kGiB, .size = 16 * kMiB + area_size}},
                  {.reserve_base = kAreaBase, .reserve_size = area_size});
    std::vector<std::uint32_t> bitmap(CmaArea::bitmap_words(c.pages, 0));
    CmaArea area;
    REQUIRE(area.init("test", f.pages, frame_of(PhysAddr(kAreaBase)), c.pages, 0, bitmap));
    SharedGuest guest(f);
    for (std::uint32_t gfn = 0; f.counts().cma_lent < c.lent; ++gfn) guest.touch(gfn);
    CrossCalls calls(kCpus);
    CallingCpus others(f, calls);
    std::atomic<unsigned> failed = 0;
    const std::uint64_t operations = random_operations(20'000) / kCpus;
    run_on_cpus(kCpus, [&](unsigned cpu) {
      for (std::uint64_t i = 0; i < operations; ++i) {
        others.poll();
        const auto block = area.alloc(cpu, c.wants[cpu], 0);
        if (!block || !area.release(cpu, *block, c.wants[cpu])) ++failed;
      }
      f.pages.drain(cpu);
      calls.leave(cpu);
    });
    CHECK_EQ(failed, 0);
    CHECK_EQ(area.statistics().failures, 0);
    guest.release();
    f.pages.drain(0);
    CHECK_EQ(f.counts().cma_idle, c.pages);
  }
}

TEST_CASE(
    "cma: devices take their areas' pages back while guests on other CPUs use them, and each keeps what it wrote") {
  constexpr std::uint64_t kAreaBase = kGiB + 8 * kMiB;
  constexpr std::uint32_t kAreaPages = 8 * kMiB / kPageSize;
  PageFixture f({{.base = kGiB, .size = 16 * kMiB}}, {.reserve_base = kAreaBase, .reserve_size = 8 * kMiB});
  std::array<std::uint32_t, CmaArea::bitmap_words(kAreaPages, 0)> bitmap{};
  CmaArea area;
  REQUIRE(area.init("test", f.pages, frame_of(PhysAddr(kAreaBase)), kAreaPages, 0, bitmap));
  const FrameCounts before = f.counts();
  SharedGuest guest(f);
  for (std::uint32_t gfn = 0; gfn < SharedGuest::kPages; gfn += 2) guest.touch(gfn);
  CrossCalls calls(kCpus);
  CallingCpus others(f, calls);
  std::atomic<unsigned> taken = 0;
  std::atomic<unsigned> wrong = 0;
  const std::uint64_t operations = random_operations(200'000) / kCpus;
  run_on_cpus(kCpus, [&](unsigned cpu) {
    std::mt19937_64 random(test_seed() + cpu);
    const bool is_device = cpu >= kCpus / 2;
    for (std::uint64_t i = 0; i < operations; ++i) {
      others.poll();
      guest.touch(static_cast<std::uint32_t>(random() % SharedGuest::kPages));
      if (!is_device || i % 64 != 0) continue;
      const auto count = static_cast<std::uint32_t>(1 + random() % 200);
      const auto block = area.alloc(cpu, count, static_cast<unsigned>(random() % 5));
      if (!block) continue;
      ++taken;
      for (std::uint32_t page = 0; page < count; ++page) first_word(f, *block + page) = ~cpu;
      for (std::uint32_t page = 0; page < count; ++page) {
        if (first_word(f, *block + page) != ~cpu) ++wrong;
      }
      if (!area.release(cpu, *block, count)) ++wrong;
    }
    f.pages.drain(cpu);
    calls.leave(cpu);
  });
  CHECK_EQ(wrong, 0);
  CHECK_EQ(guest.wrong, 0);
  CHECK_GT(taken, 0);
  CHECK_GT(guest.moved, 0);
  guest.release();
  f.pages.drain(0);
  CHECK_EQ(f.counts().cma_idle, kAreaPages);
  CHECK_EQ(f.counts().free, before.free);
}

}  // namespace
}  // namespace cadastre
