#include "mm/translation/vmid.hh"

#include <array>
#include <deque>
#include <map>
#include <random>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

TEST_CASE("a guest gets a number other than 0 and keeps it from entry to entry") {
  VmidAllocator allocator;
  Vmid a;
  Vmid b;
  CHECK(a.number() == 0);
  const unsigned first = allocator.activate(0, a).number;
  CHECK(first != 0);
  CHECK(first == a.number());
  CHECK(allocator.activate(0, b).number != first);
  CHECK(allocator.activate(1, a).number == first);
  CHECK(allocator.activate(0, a).number == first);
}

TEST_CASE("255 guests fit without a flush; one more begins a generation, and each CPU flushes once") {
  VmidAllocator allocator;
  std::deque<Vmid> guests(VmidAllocator::kNumbers);
  for (unsigned i = 0; i < 255; ++i) {
    const auto activation = allocator.activate(i % 2, guests[i]);
    CHECK(activation.number == i + 1);
    CHECK_FALSE(activation.flush);
  }
  CHECK(allocator.activate(0, guests[255]).flush);
  CHECK_FALSE(allocator.activate(0, guests[255]).flush);
  CHECK(allocator.activate(1, guests[255]).flush);
  CHECK_FALSE(allocator.activate(1, guests[254]).flush);
}

TEST_CASE("a guest that runs while a generation begins keeps its number, on every CPU") {
  VmidAllocator allocator;
  std::deque<Vmid> guests(2 * VmidAllocator::kNumbers);
  Vmid runs;
  const unsigned number = allocator.activate(3, runs).number;
  CHECK(allocator.activate(2, runs).number == number);
  for (Vmid& guest : guests) {
    CHECK(allocator.activate(0, guest).number != number);
  }
  CHECK(allocator.activate(2, runs).number == number);
  CHECK(allocator.activate(3, runs).number == number);
}

TEST_CASE("a guest that a CPU does not leave for generations keeps its number on the others, and nobody else gets it") {
  VmidAllocator allocator;
  Vmid runs;
  const unsigned number = allocator.activate(3, runs).number;
  for (unsigned generation = 0; generation < 4; ++generation) {
    std::deque<Vmid> guests(VmidAllocator::kNumbers);
    for (Vmid& guest : guests) CHECK(allocator.activate(0, guest).number != number);
    CHECK(allocator.activate(0, runs).number == number);
    CHECK(runs.number() == number);
  }
}

// A TLB for each CPU that remembers which guest it saw under a number until it is flushed.
struct Tlbs {
  std::array<std::map<unsigned, std::size_t>, kMaxCpus> seen;
  // What a CPU runs now, by guest: nobody else may have the number meanwhile.
  std::array<std::pair<unsigned, std::size_t>, kMaxCpus> running{};
};

TEST_CASE("no TLB ever meets one number with two guests, whatever the order of entries") {
  std::mt19937_64 random(test_seed());
  for (const std::size_t guest_count : {3U, 250U, 260U, 700U}) {
    VmidAllocator allocator;
    std::deque<Vmid> guests(guest_count);
    Tlbs tlbs;
    const unsigned cpus = 1 + random() % kMaxCpus;
    for (unsigned i = 0; i < 20000; ++i) {
      const unsigned cpu = random() % cpus;
      const std::size_t guest =
          random() % 3 == 0 ? random() % std::min<std::size_t>(guest_count, 5) : random() % guest_count;
      tlbs.running[cpu] = {};
      const auto [number, flush] = allocator.activate(cpu, guests[guest]);
      if (flush) tlbs.seen[cpu].clear();
      const auto [known, fresh] = tlbs.seen[cpu].emplace(number, guest);
      REQUIRE(known->second == guest);
      for (const auto& [other_number, other] : tlbs.running) {
        if (other_number != 0) REQUIRE((other_number == number) == (other == guest));
      }
      tlbs.running[cpu] = {number, guest};
    }
  }
}

}  // namespace
}  // namespace cadastre
