#include "tests/model/cached_memory.hh"

#include <cstring>
#include <functional>
#include <random>
#include <set>

#include "tests/unit/test.hh"

namespace cadastre::model {
namespace {

constexpr std::uint64_t kMib = std::uint64_t{1} << 20U;
constexpr PhysAddr kAt(kMib + 3 * kPageSize + 4);
constexpr std::uint32_t kRubbishWord = 0xb5b5'b5b5;

struct Caches {
  explicit Caches(std::uint64_t seed) : random(seed) {}
  std::mt19937_64 random;
  FakeMachine machine{{{.base = kMib, .size = 4 * kMib}}};
  CachedMemory memory{machine, [this](std::uint64_t n) { return random() % n; }};
  void store(std::uint32_t word) { std::memcpy(machine.bytes_at(kAt), &word, sizeof(word)); }
  std::uint32_t load() {
    std::uint32_t word;
    std::memcpy(&word, machine.bytes_at(kAt), sizeof(word));
    return word;
  }
};

// What can be seen, over many ways that the caches may go.
std::set<std::uint32_t> seen(const std::function<std::uint32_t(Caches&)>& story) {
  std::set<std::uint32_t> words;
  for (unsigned i = 0; i < 100; ++i) {
    Caches caches(test_seed() + i);
    words.insert(story(caches));
  }
  return words;
}
using Words = std::set<std::uint32_t>;

TEST_CASE("caches: a store that is not cleaned may or may not be seen past them; a cleaned one is") {
  CHECK(seen([](Caches& c) {
          c.store(1);
          return c.memory.read(kAt, false);
        }) == Words{1, kRubbishWord});
  CHECK(seen([](Caches& c) {
          c.store(1);
          c.memory.clean(kAt, 4);
          return c.memory.read(kAt, false);
        }) == Words{1});
  CHECK(seen([](Caches& c) {
          c.store(1);
          return c.memory.read(kAt, true);
        }) == Words{1});
}

TEST_CASE("caches: zeroes that were stored over zeroes and not cleaned go over what is written past the caches") {
  const auto story = [](bool cleans) {
    return seen([=](Caches& c) {
      c.memory.store_zeroes(kAt, kPageSize);
      c.memory.clean_and_invalidate(kAt, kPageSize);
      c.memory.store_zeroes(kAt, kPageSize);
      if (cleans) c.memory.clean(kAt, kPageSize);
      c.memory.write(kAt, 7, false);
      return c.memory.read(kAt, false);
    });
  };
  CHECK(story(false) == Words{0, 7});
  CHECK(story(true) == Words{7});
}

TEST_CASE("caches: what was written past them is seen through them for sure only after an invalidation") {
  const auto story = [](bool invalidates) {
    return seen([=](Caches& c) {
      c.store(1);
      c.memory.clean(kAt, 4);
      c.memory.write(kAt, 7, false);
      if (invalidates) c.memory.clean_and_invalidate(kAt, 4);
      return c.load();
    });
  };
  CHECK(story(false) == Words{1, 7});
  CHECK(story(true) == Words{7});
}

TEST_CASE("caches: a store next to stale bytes brings those back") {
  CHECK(seen([](Caches& c) {
          c.store(1);
          c.memory.clean(kAt, 4);
          c.memory.write(kAt, 7, false);
          const std::uint32_t word = 9;
          std::memcpy(c.machine.bytes_at(kAt + 4), &word, sizeof(word));
          c.memory.clean(kAt, 8);
          return c.memory.read(kAt, false);
        }) == Words{1, 7});
}

}  // namespace
}  // namespace cadastre::model
