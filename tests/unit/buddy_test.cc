#include "mm/frames/buddy.hh"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "tests/model/buddy_model.hh"
#include "tests/model/fake_machine.hh"
#include "tests/unit/random_runs.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

using enum MigrateType;
constexpr std::uint64_t kMiB = 1U << 20U;

// A buddy system over some sections, none of it free yet.
struct Fixture {
  explicit Fixture(std::uint32_t sections) : machine({{.base = 1U << 30U, .size = sections * 4 * kMiB}}) {
    REQUIRE(memblock.add(PhysAddr(1U << 30U), sections * 4 * kMiB));
    REQUIRE(frames.init(machine, memblock));
    buddy.init(frames);
  }
  void release(FrameIndex first, FrameIndex end) {
    for (FrameIndex i = first; i < end; ++i) buddy.free(i, 0);
  }
  // As the allocator marks it, in a state that suits its pageblock.
  FrameIndex alloc(unsigned order, MigrateType type, bool cma = false) {
    const FrameIndex block = buddy.alloc(order, type, cma);
    if (block == kNoFrame) return block;
    const FrameState state = type == kMovable ? FrameState::kGuest : FrameState::kHyp;
    frames[block].force({.state = state, .order = order, .references = 1});
    return block;
  }
  std::uint32_t blocks(unsigned order) const {
    std::uint32_t count = 0;
    for (unsigned type = 0; type < kMigrateTypes; ++type) count += buddy.blocks(order, static_cast<MigrateType>(type));
    return count;
  }

  FakeMachine machine;
  Memblock memblock;
  FrameTable frames;
  Buddy buddy;
};

TEST_CASE("buddy: single pages merge up to whole sections, whatever the order of their release") {
  Fixture f(2);
  std::vector<FrameIndex> pages(2 * kFramesPerSection);
  for (FrameIndex i = 0; i < pages.size(); ++i) pages[i] = i;
  std::ranges::shuffle(pages, std::mt19937_64(test_seed()));
  for (const FrameIndex page : pages) f.buddy.free(page, 0);
  CHECK_EQ(f.blocks(kMaxOrder), 2);
  CHECK_EQ(f.buddy.free_frames(), 2 * kFramesPerSection);
  for (unsigned order = 0; order < kMaxOrder; ++order) CHECK_EQ(f.blocks(order), 0);
}

TEST_CASE("buddy: a block is split down to the order asked for, and its parts stay listed") {
  Fixture f(1);
  f.release(0, kFramesPerSection);
  const FrameIndex page = f.alloc(0, kMovable);
  CHECK_EQ(page, 0);
  for (unsigned order = 0; order < kMaxOrder; ++order) CHECK_EQ(f.blocks(order), 1);
  CHECK_EQ(f.buddy.free_frames(), kFramesPerSection - 1);
  f.buddy.free(page, 0);
  CHECK_EQ(f.blocks(kMaxOrder), 1);
}

TEST_CASE("buddy: every order is aligned to its size, and the last block gone is the answer none") {
  for (unsigned order = 0; order <= kMaxOrder; ++order) {
    Fixture f(1);
    f.release(0, kFramesPerSection);
    for (std::uint32_t i = 0; i < kFramesPerSection >> order; ++i) {
      const FrameIndex block = f.alloc(order, kMovable);
      REQUIRE_NE(block, kNoFrame);
      CHECK_EQ(block % (1U << order), 0);
    }
    CHECK_EQ(f.alloc(order, kMovable), kNoFrame);
    CHECK_EQ(f.buddy.free_frames(), 0);
  }
}

TEST_CASE("buddy: memory at the edge of what is RAM merges no further") {
  Fixture f(1);
  f.release(100, 200);
  CHECK_EQ(f.buddy.free_frames(), 100);
  CHECK_EQ(f.blocks(kMaxOrder), 0);
  CHECK_EQ(f.alloc(6, kMovable), 128);
  CHECK_EQ(f.alloc(6, kMovable), kNoFrame);
}

TEST_CASE("buddy: a request of another type takes over whole pageblocks, so kinds stay apart") {
  Fixture f(4);
  f.release(0, 4 * kFramesPerSection);
  std::set<FrameIndex> unmovable;
  std::set<FrameIndex> movable;
  for (int i = 0; i < 600; ++i) {
    unmovable.insert(f.alloc(0, kUnmovable) / kPagesPerBlock);
    movable.insert(f.alloc(0, kMovable) / kPagesPerBlock);
  }
  for (const FrameIndex pageblock : unmovable) {
    CHECK_FALSE(movable.contains(pageblock));
    CHECK_EQ(f.frames.pageblock_type(pageblock * kPagesPerBlock), kUnmovable);
  }
  CHECK_LE(unmovable.size(), 2);
}

TEST_CASE("buddy: a pageblock mostly in use by its own kind gives a page and stays what it is") {
  Fixture f(1);
  f.release(0, kPagesPerBlock);
  std::vector<FrameIndex> pages(kPagesPerBlock);
  for (FrameIndex& page : pages) page = f.alloc(0, kMovable);
  f.buddy.free(pages[5], 0);
  CHECK_EQ(f.alloc(0, kUnmovable), pages[5]);
  CHECK_EQ(f.frames.pageblock_type(0), kMovable);
  // Once most of it is free, the next kind that asks takes it over.
  for (unsigned i = 100; i < 400; ++i) f.buddy.free(pages[i], 0);
  REQUIRE_NE(f.alloc(0, kUnmovable), kNoFrame);
  CHECK_EQ(f.frames.pageblock_type(0), kUnmovable);
  CHECK_EQ(f.buddy.blocks(0, kMovable), 0);
}

TEST_CASE("buddy: free pageblocks of different kinds become one movable block") {
  Fixture f(1);
  f.release(0, kPagesPerBlock);
  const FrameIndex block = f.alloc(0, kUnmovable);
  f.release(kPagesPerBlock, kFramesPerSection);
  CHECK_EQ(f.frames.pageblock_type(0), kUnmovable);
  f.buddy.free(block, 0);
  CHECK_EQ(f.buddy.blocks(kMaxOrder, kMovable), 1);
  CHECK_EQ(f.frames.pageblock_type(0), kMovable);
}

TEST_CASE("buddy: CMA pages go to movable requests only, and do not merge with what is not CMA's") {
  Fixture f(1);
  f.frames.set_pageblock(0, kCma);
  f.release(0, kFramesPerSection);
  CHECK_EQ(f.blocks(kMaxOrder), 0);
  CHECK_EQ(f.buddy.free_cma_frames(), kPagesPerBlock);
  CHECK_EQ(f.frames[0].state(), FrameState::kCmaIdle);
  // What is not CMA's goes first while there is as much of it.
  CHECK_EQ(f.alloc(9, kMovable, true), kPagesPerBlock);
  CHECK_EQ(f.alloc(0, kUnmovable), kNoFrame);
  CHECK_EQ(f.alloc(0, kMovable, false), kNoFrame);
  CHECK_LT(f.alloc(0, kMovable, true), kPagesPerBlock);
}

TEST_CASE("buddy: an isolated pageblock gives nothing, keeps what is freed, and comes back whole") {
  Fixture f(1);
  f.release(0, kFramesPerSection);
  const FrameIndex page = f.alloc(0, kMovable);
  REQUIRE_LT(page, kPagesPerBlock);
  REQUIRE(f.buddy.isolate(page));
  CHECK_EQ(f.buddy.isolate(page).error(), Error::kBusy);
  CHECK_EQ(f.buddy.isolated_frames(), kPagesPerBlock - 1);
  CHECK_EQ(f.buddy.free_frames(), kPagesPerBlock);
  REQUIRE_EQ(f.alloc(9, kMovable), kPagesPerBlock);
  CHECK_EQ(f.alloc(0, kMovable), kNoFrame);
  f.buddy.free(page, 0);
  CHECK_EQ(f.alloc(0, kMovable), kNoFrame);
  f.buddy.free(kPagesPerBlock, 9);
  f.buddy.unisolate(page);
  CHECK_EQ(f.buddy.blocks(kMaxOrder, kMovable), 1);
  CHECK_EQ(f.buddy.isolated_frames(), 0);
}

TEST_CASE("buddy: a block of two pageblocks that is freed while one of them is isolated comes back as two") {
  for (const FrameIndex isolated : {FrameIndex{0}, FrameIndex{kPagesPerBlock}}) {
    Fixture f(1);
    f.release(0, kFramesPerSection);
    REQUIRE_EQ(f.alloc(kMaxOrder, kMovable), 0);
    REQUIRE(f.buddy.isolate(isolated));
    f.buddy.free(0, kMaxOrder);
    CHECK_EQ(f.buddy.isolated_frames(), kPagesPerBlock);
    CHECK_EQ(f.alloc(9, kMovable), isolated ^ kPagesPerBlock);
    CHECK_EQ(f.alloc(0, kMovable), kNoFrame);
    f.buddy.unisolate(isolated);
    CHECK_EQ(f.buddy.blocks(9, kMovable), 1);
    CHECK_EQ(f.buddy.isolated_frames(), 0);
  }
}

TEST_CASE("buddy: an exact range is taken out of larger blocks, or not at all") {
  Fixture f(1);
  f.release(0, kFramesPerSection);
  for (FrameIndex first = 1; first < kPagesPerBlock; first = first * 3 + 1) {
    for (FrameIndex end = first + 1; end < kFramesPerSection; end = end * 2 + 5) {
      REQUIRE(f.buddy.isolate(0));
      REQUIRE(f.buddy.isolate(kPagesPerBlock));
      REQUIRE_EQ(f.buddy.take_range(first, end), kNoFrame);
      CHECK_EQ(f.buddy.isolated_frames(), kFramesPerSection - (end - first));
      f.frames[first].force({.state = FrameState::kHyp, .references = 1});
      CHECK_EQ(f.buddy.take_range(0, kFramesPerSection), first);
      CHECK_EQ(f.buddy.isolated_frames(), kFramesPerSection - (end - first));
      f.release(first, end);
      f.buddy.unisolate(0);
      f.buddy.unisolate(kPagesPerBlock);
      REQUIRE_EQ(f.blocks(kMaxOrder), 1);
    }
  }
}

TEST_CASE("buddy: random requests of all kinds agree with a frame by frame model") {
  constexpr std::uint32_t kSections = 3;
  Fixture f(kSections);
  BuddyModel model(kSections * kFramesPerSection);
  std::mt19937_64 random(test_seed());
  const auto pick = [&](std::size_t below) { return std::uniform_int_distribution<std::size_t>(0, below - 1)(random); };
  f.release(37, kSections * kFramesPerSection - 11);
  model.release(37, kSections * kFramesPerSection - 11 - 37);
  const std::uint64_t steps = random_operations(1'000'000);
  for (std::uint64_t step = 0; step < steps; ++step) {
    const bool grow = (step / 2000) % 2 == 0;
    if (pick(100) < (grow ? 60U : 40U)) {
      const auto order = static_cast<unsigned>(std::min(pick(kMaxOrder + 1), pick(kMaxOrder + 1)));
      const FrameIndex block = f.alloc(order, static_cast<MigrateType>(pick(3)));
      if (block == kNoFrame) {
        REQUIRE_FALSE(model.has_room(order));
      } else {
        REQUIRE(model.allocate(block, order));
      }
    } else if (!model.blocks().empty()) {
      auto block = model.blocks().lower_bound(static_cast<FrameIndex>(pick(kSections * kFramesPerSection)));
      if (block == model.blocks().end()) block = model.blocks().begin();
      const auto [first, order] = *block;
      f.buddy.free(first, order);
      model.free(first);
    }
    if (step % 500 == 0) REQUIRE_EQ(f.buddy.free_frames(), model.free_frames());
  }
  while (!model.blocks().empty()) {
    const auto [first, order] = *model.blocks().begin();
    f.buddy.free(first, order);
    model.free(first);
  }
  CHECK_EQ(f.buddy.free_frames(), model.free_frames());
  CHECK_EQ(f.blocks(kMaxOrder), 1);  // the middle section is whole again
}

}  // namespace
}  // namespace cadastre
