#include "mm/frames/cma.hh"
#include "mm/frames/ownership.hh"

#include <array>
#include <vector>

#include "tests/unit/fake_guest.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr std::uint64_t kAreaBase = kGiB + 16 * kMiB;
constexpr std::uint32_t kAreaPages = 8 * kMiB / kPageSize;

struct CmaFixture : PageFixture {
  explicit CmaFixture(unsigned order_per_bit = 0, std::uint64_t size = 48 * kMiB)
      : PageFixture({{.base = kGiB, .size = size}}, {.reserve_base = kAreaBase, .reserve_size = 8 * kMiB}) {
    REQUIRE(area.init("test", pages, frame_of(PhysAddr(kAreaBase)), kAreaPages, order_per_bit, bitmap));
  }
  std::uint32_t state_count(Pfn first, std::uint32_t count, FrameState state) {
    std::uint32_t found = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      const FrameIndex index = pages.frames().index_of(first + i);
      found += pages.frames()[pages.frames().head_of(index)].state() == state ? 1 : 0;
    }
    return found;
  }

  std::array<std::uint32_t, CmaArea::bitmap_words(kAreaPages, 0)> bitmap{};
  CmaArea area;
};

TEST_CASE("cma: an area is idle until somebody wants it, and its pages come back as they were") {
  CmaFixture f;
  CHECK_EQ(f.counts().cma_idle, kAreaPages);
  const Pfn a = *f.area.alloc(0, 100, 0);
  const Pfn b = *f.area.alloc(0, 1000, 4);
  CHECK(f.area.contains(a));
  CHECK_EQ(b.value() % 16, 0);
  CHECK_EQ(f.counts().pinned, 1100);
  CHECK_EQ(f.counts().cma_idle, kAreaPages - 1100);
  CHECK_EQ(f.area.statistics().allocated, 1100);
  CHECK_EQ(f.area.statistics().largest, kAreaPages - 1112);
  REQUIRE(f.area.release(0, a, 100));
  REQUIRE(f.area.release(0, b, 1000));
  CHECK_EQ(f.counts().cma_idle, kAreaPages);
  CHECK_EQ(*f.area.alloc(0, kAreaPages, 0), f.area.base());
  CHECK_EQ(f.area.alloc(0, 1, 0).error(), Error::kNoMemory);
  CHECK_EQ(f.area.statistics().successes, 3);
  CHECK_EQ(f.area.statistics().failures, 1);
}

TEST_CASE("cma: what a device left in memory is gone before anyone else has it") {
  CmaFixture f;
  const Pfn block = *f.area.alloc(0, 8, 0);
  f.machine.bytes_at(address_of(block + 7))[5] = std::byte{1};
  REQUIRE(f.area.release(0, block, 8));
  CHECK(f.is_zero(block, 3));
}

TEST_CASE("cma: idle pages serve movable requests and no others") {
  CmaFixture f;
  FakeGuest guest(f, 1);
  std::vector<Pfn> hyp;
  while (const auto page = f.pages.alloc(0, kNoWarn)) {
    REQUIRE_FALSE(f.area.contains(*page));
    hyp.push_back(*page);
  }
  CHECK_EQ(f.counts().cma_idle, kAreaPages);
  while (guest.grow(9)) {
  }
  CHECK_GT(f.counts().cma_lent, kAreaPages / 2);
  CHECK_EQ(f.area.statistics().lent, f.counts().cma_lent);
  CHECK_EQ(f.counts().guest, 0);  // it has nothing else
  guest.shrink();
  CHECK_EQ(f.counts().cma_idle, kAreaPages);
}

TEST_CASE("cma: a lent area is taken back, whole or in parts, and its guest keeps its memory") {
  CmaFixture f;
  FakeGuest guest(f, 1);
  while (f.counts().cma_lent < kAreaPages / 4) REQUIRE(guest.grow(0));
  while (f.counts().cma_lent < kAreaPages / 2) REQUIRE(guest.grow(9));
  const Pfn part = *f.area.alloc(0, 700, 9);
  CHECK_EQ(f.state_count(part, 700, FrameState::kDmaPinned), 700);
  guest.check();
  REQUIRE(f.area.release(0, part, 700));
  const Pfn all = *f.area.alloc(0, kAreaPages, 0);
  CHECK_EQ(f.counts().cma_lent, 0);
  CHECK_EQ(f.counts().pinned, kAreaPages);
  guest.check();
  REQUIRE(f.area.release(0, all, kAreaPages));
}

TEST_CASE("cma: pages that do not move make it look further, or fail with all as before") {
  CmaFixture f;
  FakeGuest guest(f, 1);
  while (f.counts().cma_lent < 512) REQUIRE(guest.grow(9));
  guest.refuse = true;
  const Pfn block = *f.area.alloc(0, 1024, 0);
  CHECK_FALSE(guest.uses(block, block + 1024));
  REQUIRE(f.area.release(0, block, 1024));
  const FrameCounts before = f.counts();
  CHECK_EQ(f.area.alloc(0, kAreaPages, 0).error(), Error::kNoMemory);
  CHECK_EQ(f.counts().cma_idle, before.cma_idle);
  CHECK_EQ(f.counts().cma_lent, before.cma_lent);
  CHECK_EQ(f.area.statistics().allocated, 0);
  guest.check();
}

TEST_CASE("cma: an area that is lent to who does not move is found full without a call to any other CPU") {
  CmaFixture f;
  Ownership ownership(f.pages.frames());
  std::uint32_t gfn = 0;
  while (const auto page = f.pages.alloc(0, kHighmem | kMovable | kNoWarn))
    REQUIRE(ownership.give(*page, 1, Gfn(gfn++)));
  REQUIRE_GT(f.area.statistics().lent, kAreaPages / 2);
  const CountingCpus others(f);
  while (f.area.alloc(0, 1, 0)) {
  }
  CHECK_EQ(f.area.alloc(0, 1, 0).error(), Error::kNoMemory);
  CHECK_EQ(f.area.alloc(0, kAreaPages / 2, 3).error(), Error::kNoMemory);
  CHECK_EQ(others.drains, 0);
  f.check_audit();
}

TEST_CASE(
    "cma: what is on its way back to the free lists is waited for, with one call to all CPUs however much there is") {
  CmaFixture f;
  // Somebody has every pageblock isolated, until the other CPUs are asked.
  REQUIRE(f.pages.isolate(f.area.base(), f.area.base() + kAreaPages));
  CountingCpus others(f);
  others.when_drained = [](PageFixture& fixture) {
    const Pfn base = frame_of(PhysAddr(kAreaBase));
    fixture.pages.unisolate(base, base + kAreaPages);
  };
  const auto block = f.area.alloc(0, 700, 0);
  REQUIRE(block);
  CHECK_EQ(others.drains, 1);
  REQUIRE(f.area.release(0, *block, 700));
  // And if that was not it, it is full.
  REQUIRE(f.pages.isolate(f.area.base(), f.area.base() + kAreaPages));
  CHECK_EQ(f.area.alloc(0, 1, 0).error(), Error::kNoMemory);
  CHECK_EQ(others.drains, 2);
  f.pages.unisolate(f.area.base(), f.area.base() + kAreaPages);
  f.check_audit();
}

TEST_CASE("cma: a bit may stand for several pages") {
  CmaFixture f(4);
  const Pfn a = *f.area.alloc(0, 1, 0);
  const Pfn b = *f.area.alloc(0, 17, 0);
  CHECK_EQ(b - a, 16);
  CHECK_EQ(f.area.statistics().allocated, 48);
  CHECK_EQ(f.counts().pinned, 48);
  CHECK_EQ(f.area.release(0, a + 1, 1).error(), Error::kInvalid);
  REQUIRE(f.area.release(0, a, 1));
  REQUIRE(f.area.release(0, b, 17));
  CHECK_EQ(f.counts().cma_idle, kAreaPages);
}

TEST_CASE("cma: what is released twice, or in part by the page allocator, is reported and stays as it is") {
  CmaFixture f;
  const Pfn a = *f.area.alloc(0, 100, 0);
  const Pfn b = *f.area.alloc(0, 100, 0);
  const auto refused = [&](const Result<>& result, Error error) {
    CHECK_EQ(result.error(), error);
    REQUIRE_FALSE(f.log.lines.empty());
    f.log.lines.clear();
    CHECK_EQ(f.counts().pinned, f.area.statistics().allocated);
  };
  refused(f.pages.try_free(a + 5, 0), Error::kCorrupt);
  // All or none of a range: its last page is nobody's.
  refused(f.pages.free_contig_range(0, b, b + 101), Error::kCorrupt);
  CHECK_EQ(f.counts().pinned, 200);
  REQUIRE(f.area.release(0, a, 100));
  refused(f.area.release(0, a, 100), Error::kInvalid);
  refused(f.area.release(0, b - 1, 2), Error::kInvalid);
  REQUIRE(f.area.release(0, b, 100));
  refused(f.area.release(0, b + 99, 1), Error::kInvalid);
  CHECK_EQ(f.counts().cma_idle, kAreaPages);
}

TEST_CASE("cma: what makes no sense is refused") {
  CmaFixture f;
  CHECK_EQ(f.area.alloc(0, 0, 0).error(), Error::kInvalid);
  CHECK_EQ(f.area.alloc(0, kAreaPages + 1, 0).error(), Error::kInvalid);
  CHECK_EQ(f.area.alloc(0, 1, kMaxOrder + 1).error(), Error::kInvalid);
  CHECK_EQ(f.area.release(0, f.area.base(), 1).error(), Error::kInvalid);
  CHECK_EQ(f.area.release(0, f.area.base() - 1, 1).error(), Error::kInvalid);
  const Pfn page = *f.area.alloc(0, 1, 0);
  CHECK_EQ(f.area.release(0, page, 2).error(), Error::kInvalid);
  CHECK_EQ(f.area.release(0, page, kAreaPages + 1).error(), Error::kInvalid);
  CmaArea other;
  const Pfn base = frame_of(PhysAddr(kGiB + 4 * kMiB));
  CHECK_EQ(other.init("odd", f.pages, base + 1, 512, 0, f.bitmap).error(), Error::kInvalid);
  CHECK_EQ(other.init("taken", f.pages, base, 512, 0, f.bitmap).error(), Error::kInvalid);
  CHECK_EQ(other.init("no bitmap", f.pages, base, 512, 0, {}).error(), Error::kInvalid);
  CHECK_EQ(other.init("coarse", f.pages, base, 1024, 10, f.bitmap).error(), Error::kInvalid);
  f.check_audit();
}

TEST_CASE("cma: only what memblock reserved for a pool becomes an area, to the last frame") {
  constexpr std::uint64_t kBase = kGiB + 4 * kMiB;
  const auto make = [](PageFixture& f) {
    std::array<std::uint32_t, CmaArea::bitmap_words(1024, 0)> words{};
    CmaArea made;
    return made.init("test", f.pages, frame_of(PhysAddr(kBase)), 1024, 0, words);
  };
  PageFixture pool({{.base = kGiB, .size = 16 * kMiB}}, {.reserve_base = kBase, .reserve_size = 4 * kMiB});
  CHECK(make(pool).has_value());
  PageFixture image({{.base = kGiB, .size = 16 * kMiB}},
                    {.reserve_base = kBase, .reserve_size = 4 * kMiB, .reserve_flags = MemblockFlags::kNone});
  CHECK_EQ(make(image).error(), Error::kInvalid);
  CHECK_EQ(image.counts().cma_idle, 0);
  // Whoever reserved a page of it before keeps that.
  FakeMachine machine({{.base = kGiB, .size = 16 * kMiB}});
  Memblock memblock;
  PageAllocator<FakeMachine> pages(machine);
  REQUIRE(memblock.add(PhysAddr(kGiB), 16 * kMiB));
  REQUIRE(memblock.reserve(PhysAddr(kBase + 2 * kMiB), kPageSize));
  REQUIRE(memblock.reserve(PhysAddr(kBase), 4 * kMiB, kNoNode, MemblockFlags::kPool));
  REQUIRE(pages.init(memblock));
  pages.release(memblock);
  std::array<std::uint32_t, CmaArea::bitmap_words(1024, 0)> words{};
  CmaArea area_over_it;
  CHECK_EQ(area_over_it.init("test", pages, frame_of(PhysAddr(kBase)), 1024, 0, words).error(), Error::kInvalid);
}

TEST_CASE("cma: when the Nth allocation fails, everything is as before") {
  CmaFixture f;
  FakeGuest guest(f, 1);
  while (f.counts().cma_lent < 1024) REQUIRE(guest.grow(9));
  FaultInjector fault;
  f.pages.set_fault_injector(&fault);
  for (std::uint32_t nth = 0;; ++nth) {
    const FrameCounts before = f.counts();
    fault.arm(nth);
    const auto block = f.area.alloc(0, kAreaPages, 0);
    fault.disarm();
    guest.check();
    if (block) {
      CHECK_EQ(f.counts().pinned, kAreaPages);
      break;
    }
    CHECK_EQ(f.counts().cma_lent + f.counts().guest, before.cma_lent + before.guest);
    CHECK_EQ(f.counts().pinned, 0);
    CHECK_EQ(f.counts().free + f.counts().cma_idle, before.free + before.cma_idle);
    REQUIRE_LT(nth, 1000);
  }
}

}  // namespace
}  // namespace cadastre
