#include "hyp/emulate/set_way.hh"

#include <algorithm>
#include <random>
#include <set>
#include <vector>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

using Step = SetWayMaintenance::Step;

// A guest's memory in as many parts as it takes steps to clean it; a part that is written to is dirty.
struct CleanedMemory {
  explicit CleanedMemory(std::uint64_t parts) : parts(parts) {}

  Step trap(std::uint32_t operation) {
    return set_way.trap(operation, [&](std::uint64_t from) -> std::optional<std::uint64_t> {
      ++steps;
      dirty.erase(from);
      if (from + 1 == parts) return std::nullopt;
      return from + 1;
    });
  }
  // As the guest's CPU: the instruction again and again until it is behind it.
  void execute(std::uint32_t operation) {
    for (unsigned i = 0; trap(operation) == Step::kAgain; ++i) REQUIRE(i < parts);
  }

  SetWayMaintenance set_way;
  std::uint64_t parts;
  std::set<std::uint64_t> dirty;
  unsigned steps = 0;
};

constexpr std::uint32_t operation(unsigned level, unsigned set, unsigned way) {
  return way << 30 | set << 6 | level << 1;
}

TEST_CASE("a round of sets and ways cleans everything once, whatever its length") {
  CleanedMemory memory(5);
  for (unsigned round = 1; round <= 3; ++round) {
    for (unsigned i = 0; i < 1024; ++i) memory.execute(operation(0, i / 4, i % 4));
    CHECK(memory.steps == 5 * round);
  }
}

TEST_CASE("each step of a clean is one trap, and other operations meanwhile go on with it") {
  CleanedMemory memory(4);
  CHECK(memory.trap(operation(0, 0, 0)) == Step::kAgain);
  CHECK(memory.trap(operation(0, 0, 0)) == Step::kAgain);
  CHECK(memory.trap(operation(0, 7, 0)) == Step::kAgain);  // an interrupt handler's
  CHECK(memory.trap(operation(0, 7, 0)) == Step::kDone);
  CHECK(memory.steps == 4);
  CHECK(memory.trap(operation(0, 7, 0)) == Step::kDone);
  CHECK(memory.steps == 4);
}

TEST_CASE("each level has rounds of its own") {
  CleanedMemory memory(1);
  memory.execute(operation(1, 0, 0));
  memory.execute(operation(1, 1, 0));
  CHECK(memory.steps == 1);
  memory.execute(operation(0, 3, 1));
  CHECK(memory.steps == 2);
  memory.execute(operation(0, 3, 0));
  CHECK(memory.steps == 2);
}

TEST_CASE("what was written before a round is clean after it, in whatever order the rounds go") {
  std::mt19937_64 random(test_seed());
  CleanedMemory memory(7);
  std::array<std::vector<std::uint32_t>, 2> levels;
  for (unsigned level = 0; level < 2; ++level) {
    for (unsigned i = 0; i < 64; ++i) levels[level].push_back(operation(level, i / 4, i % 4));
  }
  for (unsigned round = 0; round < 500; ++round) {
    auto& operations = levels[random() % 2];
    std::ranges::shuffle(operations, random);
    for (unsigned i = 0; i < 3; ++i) memory.dirty.insert(random() % memory.parts);
    const auto before = memory.dirty;
    for (const std::uint32_t operation : operations) {
      memory.execute(operation);
      if (random() % 8 == 0) memory.dirty.insert(memory.parts + round);  // written meanwhile: no promise
    }
    for (const std::uint64_t part : before) {
      if (part < memory.parts) REQUIRE_FALSE(memory.dirty.contains(part));
    }
  }
}

}  // namespace
}  // namespace cadastre
