#include "mm/frames/frame.hh"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>

#include "mm/frames/frame_list.hh"
#include "mm/frames/ownership.hh"
#include "tests/model/fake_machine.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr std::uint64_t kMiB = 1U << 20U;
constexpr std::uint64_t kGiB = 1U << 30U;

struct Table {
  explicit Table(const std::vector<FakeBank>& banks) : machine(banks) {
    for (const FakeBank& bank : banks) REQUIRE(memblock.add(PhysAddr(bank.base), bank.size, bank.nid));
    REQUIRE(frames.init(machine, memblock));
  }
  FakeMachine machine;
  Memblock memblock;
  FrameTable frames;
};

TEST_CASE("frames: each page of RAM has one, found by its number and back; what is no RAM has none") {
  Table table({{.base = kGiB, .size = 64 * kMiB}, {.base = 34 * kGiB, .size = 8 * kMiB, .nid = 1}});
  FrameTable& frames = table.frames;
  const std::uint32_t first = kGiB >> kPageShift;
  for (std::uint32_t i = 0; i < 64 * kMiB / kPageSize; ++i) {
    const FrameIndex index = frames.index_of(Pfn(first + i));
    REQUIRE_EQ(index, i);
    REQUIRE_EQ(frames.pfn_of(index), Pfn(first + i));
    REQUIRE_EQ(frames.index_of(frames[index]), index);
  }
  CHECK_EQ(frames.find(Pfn(first - 1)), nullptr);
  CHECK_EQ(frames.find(Pfn(first + 64 * kMiB / kPageSize)), nullptr);
  CHECK_EQ(frames.find(Pfn(0)), nullptr);
  CHECK_EQ(frames.find(Pfn(~0U)), nullptr);
  const Pfn high = frame_of(PhysAddr(34 * kGiB));
  REQUIRE_NE(frames.find(high), nullptr);
  CHECK_EQ(frames.index_of(high), 64 * kMiB / kPageSize);
  CHECK_EQ(frames.section_of(frames.index_of(high)).nid, 1);
  CHECK_EQ(frames.find(high + 8 * kMiB / kPageSize), nullptr);
}

TEST_CASE("frames: holes between banks cost next to nothing") {
  const Table near({{.base = kGiB, .size = 128 * kMiB}});
  const Table far({{.base = kGiB, .size = 64 * kMiB}, {.base = 1000 * kGiB, .size = 64 * kMiB, .nid = 1}});
  CHECK_LE(far.frames.metadata_size(), near.frames.metadata_size() + 1024);
  // 16 bytes a frame, and little besides.
  CHECK_LT(near.frames.metadata_size(), 128 * kMiB / kPageSize * 16 + 4096);
}

TEST_CASE("frames: banks that are no whole sections share a section without sharing frames") {
  const Table table({{.base = kGiB + kPageSize, .size = kMiB}, {.base = kGiB + 2 * kMiB, .size = 7 * kMiB}});
  CHECK_EQ(table.frames.count(), 3 * kFramesPerSection);
  CHECK_EQ(table.frames.index_of(frame_of(PhysAddr(kGiB + 2 * kMiB))), 512);
}

TEST_CASE("frames: a hole behind the first section is none of its frames") {
  const Table table({{.base = kGiB, .size = 4 * kMiB}, {.base = kGiB + 64 * kMiB, .size = 4 * kMiB}});
  CHECK_EQ(table.frames.contiguous_index_of(frame_of(PhysAddr(kGiB + 4 * kMiB - 1))), kFramesPerSection - 1);
  CHECK_EQ(table.frames.index_of(frame_of(PhysAddr(kGiB + 4 * kMiB))), kNoFrame);
  CHECK_EQ(table.frames.index_of(frame_of(PhysAddr(kGiB + 64 * kMiB))), kFramesPerSection);
}

TEST_CASE("frames: memory beyond 40 bits, and none at all, are refused") {
  FakeMachine machine({{.base = kGiB, .size = 16 * kMiB}});
  Memblock memblock;
  FrameTable frames;
  CHECK_EQ(frames.init(machine, memblock).error(), Error::kOutOfRange);
  REQUIRE(memblock.add(PhysAddr(kGiB), 16 * kMiB));
  REQUIRE(memblock.add(PhysAddr((kGiB << 10U) - kMiB), 2 * kMiB));
  CHECK_EQ(frames.init(machine, memblock).error(), Error::kOutOfRange);
  REQUIRE(memblock.remove(PhysAddr(kGiB << 10U), kGiB));
  memblock.set_current_limit(PhysAddr(2 * kGiB));
  CHECK(frames.init(machine, memblock));
}

// Their frames are a GiB, for which a 32-bit machine would have no room.
TEST_CASE("frames: 256 GiB are the most, exactly") {
  if constexpr (sizeof(void*) == 8) {
    constexpr std::uint64_t kMost = 256 * kGiB;
    FakeMachine machine({{.base = kGiB, .size = 2 * kGiB}}, PhysAddr(3 * kGiB));
    Memblock memblock;
    FrameTable frames;
    memblock.set_current_limit(PhysAddr(3 * kGiB));
    // With a hole, so that the last ones are found by the tables.
    REQUIRE(memblock.add(PhysAddr(kGiB), 100 * kGiB));
    REQUIRE(memblock.add(PhysAddr(200 * kGiB), kMost - 100 * kGiB + kPageSize));
    CHECK_EQ(frames.init(machine, memblock).error(), Error::kOutOfRange);
    REQUIRE(memblock.remove(PhysAddr(100 * kGiB + kMost), kPageSize));
    REQUIRE(frames.init(machine, memblock));
    CHECK_EQ(frames.count(), kMost / kPageSize);
    const Pfn last = frame_of(PhysAddr(100 * kGiB + kMost)) - 1;
    CHECK_EQ(frames.index_of(last), frames.count() - 1);
    CHECK_EQ(frames.pfn_of(frames.count() - 1), last);
    CHECK_EQ(frames.index_of(last + 1), kNoFrame);
    CHECK_EQ(frames.index_of(frame_of(PhysAddr(150 * kGiB))), kNoFrame);
    CHECK_EQ(frames.index_of(frame_of(PhysAddr(200 * kGiB))), 100 * kGiB / kPageSize);
  }
}

TEST_CASE("frames: the first frame of a block is found from any of its frames") {
  Table table({{.base = kGiB, .size = 16 * kMiB}});
  FrameTable& frames = table.frames;
  frames[512].force({.state = FrameState::kGuest, .order = 9, .owner = 1, .references = 1});
  frames[3].force({.state = FrameState::kHyp, .order = 0, .references = 1});
  CHECK_EQ(frames.head_of(512), 512);
  CHECK_EQ(frames.head_of(513), 512);
  CHECK_EQ(frames.head_of(1023), 512);
  CHECK_EQ(frames.head_of(1024), 1024);
  CHECK_EQ(frames.head_of(511), 511);
  CHECK_EQ(frames.head_of(3), 3);
  CHECK_EQ(frames.head_of(2), 2);
}

TEST_CASE("ownership: a block is given to one guest, split, joined, and shared; the table refuses the rest") {
  Table table({{.base = kGiB, .size = 16 * kMiB}});
  FrameTable& frames = table.frames;
  Ownership ownership(frames);
  const Pfn block = frames.pfn_of(512);
  CHECK_EQ(ownership.give(block, 1, Gfn(0x40000)).error(), Error::kCorrupt);  // reserved
  CHECK_EQ(ownership.give(Pfn(0), 1, Gfn(0x40000)).error(), Error::kOutOfRange);
  frames[512].force({.state = FrameState::kHyp, .order = 9, .references = 1});
  REQUIRE(ownership.give(block, 1, Gfn(0x40000)));
  CHECK_EQ(frames[512].state(), FrameState::kGuest);
  CHECK_EQ(frames[512].owner(), 1);
  CHECK_EQ(frames[512].gfn(), Gfn(0x40000));
  CHECK_EQ(ownership.give(block, 2, Gfn(0x40000)).error(), Error::kCorrupt);

  REQUIRE(ownership.split(block, 0));
  CHECK_EQ(frames[1023].gfn(), Gfn(0x401ff));
  CHECK_EQ(frames[1023].owner(), 1);
  CHECK_EQ(frames.head_of(700), 700);
  REQUIRE(ownership.change(frames.pfn_of(600), FrameState::kGuestShared));
  CHECK_EQ(ownership.join(block, 9).error(), Error::kInvalid);
  REQUIRE(ownership.get(frames.pfn_of(600)));
  CHECK_EQ(frames[600].references(), 2);
  CHECK_EQ(*ownership.put(frames.pfn_of(600)), 1);
  REQUIRE(ownership.change(frames.pfn_of(600), FrameState::kGuest));
  CHECK_EQ(ownership.change(frames.pfn_of(600), FrameState::kSlab).error(), Error::kCorrupt);
  frames[511].force({.state = FrameState::kHyp, .order = 0, .references = 1});
  REQUIRE(ownership.join(block, 8));
  REQUIRE(ownership.join(frames.pfn_of(768), 8));
  REQUIRE(ownership.join(block, 9));
  CHECK_EQ(frames[511].state(), FrameState::kHyp);
  CHECK_EQ(frames[512].order(), 9);
  CHECK_EQ(frames[512].gfn(), Gfn(0x40000));
  CHECK_EQ(frames[600].packed(), 0);
  CHECK_EQ(frames.head_of(600), 512);
}

TEST_CASE("ownership: pages that a guest has in another order do not join") {
  Table table({{.base = kGiB, .size = 16 * kMiB}});
  FrameTable& frames = table.frames;
  Ownership ownership(frames);
  for (const FrameIndex i : {512U, 513U}) {
    frames[i].force({.state = FrameState::kHyp, .order = 0, .references = 1});
    REQUIRE(ownership.give(frames.pfn_of(i), 1, Gfn(0x40000 + (513 - i))));
  }
  CHECK_EQ(ownership.join(frames.pfn_of(512), 1).error(), Error::kInvalid);
  CHECK_EQ(frames[513].gfn(), Gfn(0x40000));
}

TEST_CASE("ownership: what is free, or no RAM, has no owner to change it") {
  Table table({{.base = kGiB, .size = 16 * kMiB}});
  Ownership ownership(table.frames);
  table.frames[512].force({.state = FrameState::kFree, .order = 0, .references = 1});
  const auto refused = [&](Pfn page, Error error) {
    CHECK_EQ(ownership.give(page, 1, Gfn(0x40000)).error(), error);
    CHECK_EQ(ownership.change(page, FrameState::kHyp).error(), error);
    CHECK_EQ(ownership.get(page).error(), error);
    CHECK_EQ(ownership.put(page).error(), error);
    CHECK_EQ(ownership.split(page, 0).error(), error);
    CHECK_EQ(ownership.join(page, 0).error(), error);
  };
  refused(table.frames.pfn_of(512), Error::kCorrupt);
  refused(Pfn(0), Error::kOutOfRange);
}

#ifndef NDEBUG

// Whether `f` runs into a CHECK. In a process of its own, as that ends it.
template <class F>
bool is_stopped(F&& f) {
  const pid_t child = fork();
  if (child == 0) {
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(0);
    std::signal(SIGABRT, SIG_DFL);
    f();
    _exit(0);
  }
  int status = 0;
  REQUIRE_EQ(waitpid(child, &status, 0), child);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

TEST_CASE(
    "frames: a debug build stops at a change of state that the table does not have, whichever way it is written") {
  using enum FrameState;
  Table table({{.base = kGiB, .size = 4 * kMiB}});
  Frame& frame = table.frames[0];
  const auto stops = [&](FrameState from, auto&& change) {
    frame.force({.state = from, .references = from == kReserved ? 0U : 1U});
    return is_stopped(change);
  };
  for (unsigned i = 0; i < kFrameStates * kFrameStates; ++i) {
    const auto from = static_cast<FrameState>(i / kFrameStates);
    const auto to = static_cast<FrameState>(i % kFrameStates);
    CHECK_EQ(stops(from, [&] { frame.set_word({.state = to}); }), from != to && !may_become(from, to));
    if (from != kReserved) continue;
    CHECK_EQ(stops(from, [&] { frame.put_down(kFree, FrameWord{.state = to}); }),
             to != kFree && !may_become(kFree, to));
  }
  CHECK(stops(kGuest, [&] { frame.take_off(); }));
  CHECK_FALSE(stops(kFree, [&] { frame.take_off(); }));
  CHECK(stops(kGuest, [&] { frame.pick_up(kCmaIdle); }));
  CHECK_FALSE(stops(kCmaLent, [&] { frame.pick_up(kCmaIdle); }));
  CHECK(stops(kFree, [&] { frame.absorb(); }));
  CHECK_FALSE(stops(kGuest, [&] { frame.absorb(); }));
}

#endif

TEST_CASE("ownership: the table lets nothing pass between guests, and nothing out of poison") {
  using enum FrameState;
  for (unsigned to = 0; to < kFrameStates; ++to) CHECK_FALSE(may_become(kPoisoned, static_cast<FrameState>(to)));
  CHECK_FALSE(may_become(kGuest, kHyp));
  CHECK_FALSE(may_become(kGuest, kSlab));
  CHECK_FALSE(may_become(kCmaLent, kDmaPinned));
  CHECK_FALSE(may_become(kFree, kGuest));
  CHECK_FALSE(may_become(kReserved, kHyp));
  CHECK_FALSE(may_become(kCmaIdle, kHyp));
  CHECK(may_become(kHyp, kGuest));
  CHECK(may_become(kCmaIdle, kCmaLent));
}

TEST_CASE("frame lists: both ends and the middle") {
  Table table({{.base = kGiB, .size = 4 * kMiB}});
  FrameTable& frames = table.frames;
  FrameList list;
  CHECK(list.empty());
  list.push_back(frames, 1);
  list.push_back(frames, 2);
  list.push_front(frames, 0);
  list.push_back(frames, 3);
  list.remove(frames, 2);
  CHECK_EQ(list.pop_front(frames), 0);
  CHECK_EQ(list.pop_back(frames), 3);
  list.remove(frames, 1);
  CHECK(list.empty());
  CHECK_EQ(list.tail(), kNoFrame);
}

}  // namespace
}  // namespace cadastre
