#include <array>
#include <atomic>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mm/objects/slab.hh"
#include "tests/unit/cpu_threads.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/random_runs.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr unsigned kCpus = 4;

struct SlabThreads : PageFixture {
  explicit SlabThreads(SlabFlags flags) : PageFixture(64 * kMiB), slabs(pages) {
    REQUIRE(slabs.init(&log, flags));
    hyp_at_first = hyp_in_use();
  }
  std::uint32_t hyp_in_use() {
    for (unsigned cpu = 0; cpu < kCpus; ++cpu) {
      FakeMachine::current_cpu = cpu;
      slabs.shrink_all();
    }
    FakeMachine::current_cpu = 0;
    slabs.shrink_all();
    return counts().hyp;
  }
  void check_nothing_lost() {
    CHECK_EQ(slabs.bad_objects(), 0);
    CHECK_EQ(hyp_in_use(), hyp_at_first);
    CHECK(slabs.audit());
  }

  SlabAllocator<FakeMachine> slabs;
  std::uint32_t hyp_at_first = 0;
};

constexpr std::array kKinds = {SlabFlags{}, kRedZone | kPoisonObjects | kObjectHistory};

TEST_CASE("slab: CPUs allocate and free at once, each other's objects too") {
  for (const SlabFlags flags : kKinds) {
    SlabThreads f(flags);
    constexpr std::array<std::size_t, 5> kSizes = {16, 100, 500, 6000, 20'000};
    struct Object {
      std::size_t size;
      std::size_t check;
    };
    std::array<std::atomic<Object*>, 128> exchange{};
    std::atomic<unsigned> wrong = 0;
    const auto give_back = [&](Object* object) {
      if (object == nullptr) return;
      const auto* last = reinterpret_cast<const unsigned char*>(object) + object->size - 1;
      if (object->check != ~object->size || (object->size > sizeof(Object) && *last != 0x5a)) ++wrong;
      f.slabs.kfree(object);
    };
    const std::uint64_t operations = random_operations(200'000) / kCpus;
    run_on_cpus(kCpus, [&](unsigned cpu) {
      std::mt19937_64 random(test_seed() + cpu);
      for (std::uint64_t i = 0; i < operations; ++i) {
        const std::size_t size = kSizes[random() % (random() % 64 == 0 ? kSizes.size() : 3)];
        const auto pointer = f.slabs.kmalloc(size, kNoWarn);
        if (!pointer) continue;
        auto* object = static_cast<Object*>(*pointer);
        *object = {.size = size, .check = ~size};
        if (size > sizeof(Object)) static_cast<unsigned char*>(*pointer)[size - 1] = 0x5a;
        give_back(exchange[random() % exchange.size()].exchange(object));
        if (i % 1000 == 0) f.slabs.shrink_all();
      }
    });
    for (auto& slot : exchange) give_back(slot.load());
    CHECK_EQ(wrong, 0);
    f.check_nothing_lost();
  }
}

TEST_CASE("slab: one CPU makes objects and another frees them, while caches come and go on a third") {
  for (const SlabFlags flags : kKinds) {
    SlabThreads f(flags);
    const auto cache = f.slabs.create({.name = "crossing", .size = 72, .flags = flags});
    REQUIRE(cache);
    std::array<std::atomic<void*>, 64> ring{};
    std::atomic<unsigned> wrong = 0;
    const std::uint64_t operations = random_operations(100'000) / 2;
    run_on_cpus(kCpus, [&](unsigned cpu) {
      if (cpu == 3) {
        for (std::uint64_t i = 0; i < operations / 32; ++i) {
          const auto mine = f.slabs.create({.name = "passing", .size = 40, .flags = flags});
          if (!mine) continue;
          std::array<void*, 8> objects{};
          if (f.slabs.alloc_bulk(**mine, objects, kNoWarn)) f.slabs.free_bulk(**mine, objects);
          if (!f.slabs.destroy(**mine)) ++wrong;
        }
        return;
      }
      for (std::uint64_t i = 0; i < operations; ++i) {
        std::atomic<void*>& slot = ring[i % ring.size()];
        if (cpu != 0) {
          if (void* object = slot.exchange(nullptr); object != nullptr) f.slabs.free(**cache, object);
          continue;
        }
        const auto object = f.slabs.alloc(**cache, kNoWarn);
        if (!object) continue;
        if (void* other = slot.exchange(*object); other != nullptr) f.slabs.free(**cache, other);
      }
    });
    for (auto& slot : ring) {
      if (void* object = slot.load(); object != nullptr) f.slabs.free(**cache, object);
    }
    CHECK_EQ(wrong, 0);
    CHECK(f.slabs.destroy(**cache));
    f.check_nothing_lost();
  }
}

TEST_CASE("slab: several CPUs free one object at once, and still no two get it allocated") {
  PageFixture f(64 * kMiB);
  SlabAllocator slabs(f.pages);
  REQUIRE(slabs.init());
  const auto cache = slabs.create({.name = "raced", .size = 64, .flags = SlabFlags{}});
  REQUIRE(cache);
  constexpr unsigned kObjects = 40;
  const std::uint64_t rounds = std::max<std::uint64_t>(10, random_operations(100'000) / 200);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    std::array<void*, kObjects> objects{};
    FakeMachine::current_cpu = static_cast<unsigned>(round % kCpus);
    REQUIRE(slabs.alloc_bulk(**cache, objects));
    std::array<std::atomic<unsigned>, kObjects> freed{};
    run_on_cpus(kCpus, [&](unsigned) {
      for (std::size_t i = 0; i < kObjects; ++i) freed[i] += slabs.try_free(**cache, objects[i]) ? 1 : 0;
    });
    for (std::size_t i = 0; i < kObjects; ++i) {
      // Only that CPU whose current slab it is in, and one other, can both think that they were first.
      CHECK_GE(freed[i], 1);
      CHECK_LE(freed[i], 2);
      // Afterwards it is free, and everyone knows it.
      CHECK_EQ(slabs.try_free(**cache, objects[i]).error(), Error::kCorrupt);
    }
    std::array<std::array<void*, kObjects>, kCpus> held{};
    std::set<void*> all;
    for (unsigned cpu = 0; cpu < kCpus; ++cpu) {
      FakeMachine::current_cpu = cpu;
      REQUIRE(slabs.alloc_bulk(**cache, held[cpu]));
      for (void* object : held[cpu]) {
        all.insert(object);
        std::memset(object, static_cast<int>(cpu + 1), 64);
      }
    }
    CHECK_EQ(all.size(), kCpus * kObjects);
    for (unsigned cpu = 0; cpu < kCpus; ++cpu) {
      FakeMachine::current_cpu = (cpu + 1) % kCpus;
      for (void* object : held[cpu]) {
        for (std::size_t i = 0; i < 64; ++i) REQUIRE_EQ(static_cast<unsigned char*>(object)[i], cpu + 1);
      }
      slabs.free_bulk(**cache, held[cpu]);
    }
  }
  FakeMachine::current_cpu = 0;
}

TEST_CASE("slab: slabinfo is printed while caches come and go and objects cross CPUs") {
  SlabThreads f(SlabFlags{});
  std::atomic<unsigned> left = 2;
  std::atomic<unsigned> wrong = 0;
  const auto crossing = f.slabs.create({.name = "crossing", .size = 200, .flags = SlabFlags{}});
  REQUIRE(crossing);
  std::array<std::atomic<void*>, 64> ring{};
  run_on_cpus(3, [&](unsigned cpu) {
    static constexpr std::array<std::string_view, 2> kNames = {"one", "two"};
    if (cpu == 0) {
      LogLines table;
      while (left != 0) {
        table.lines.clear();
        f.slabs.print_slabinfo(cpu, table);
        if (table.lines.size() < 1 + 1 + 13 + 1) ++wrong;
        for (const std::string& line : table.lines) {
          const std::string name = line.substr(0, line.find(' '));
          const bool known = name == "#" || name == "cache" || name == "crossing" || name == "one" || name == "two";
          if (!known && !name.starts_with("kmalloc-")) ++wrong;
        }
      }
      return;
    }
    for (unsigned i = 0; i < 300; ++i) {
      const auto cache = f.slabs.create({.name = kNames[i % 2], .size = 64 + i, .flags = SlabFlags{}});
      if (!cache) continue;
      if (const auto object = f.slabs.alloc(**cache)) f.slabs.free(**cache, *object);
      if (!f.slabs.destroy(**cache)) ++wrong;
      for (auto& slot : ring) {
        const auto object = f.slabs.alloc(**crossing);
        if (void* other = slot.exchange(object.value_or(nullptr)); other != nullptr) f.slabs.free(**crossing, other);
      }
    }
    --left;
  });
  CHECK_EQ(wrong, 0);
  for (auto& slot : ring) {
    if (void* object = slot.load(); object != nullptr) f.slabs.free(**crossing, object);
  }
  REQUIRE(f.slabs.destroy(**crossing));
  f.check_nothing_lost();
}

TEST_CASE("slab: a cache is destroyed while another CPU reclaims") {
  SlabThreads f(SlabFlags{});
  std::atomic<bool> done = false;
  std::atomic<unsigned> wrong = 0;
  run_on_cpus(2, [&](unsigned cpu) {
    while (cpu == 1 && !done.load()) {
      f.slabs.shrink_all();
      static_cast<void>(f.slabs.spare_pages());
    }
    for (unsigned i = 0; cpu == 0 && i < 500; ++i) {
      const auto cache = f.slabs.create({.name = "test", .size = 64 + i, .flags = SlabFlags{}});
      if (!cache) continue;
      const auto object = f.slabs.alloc(**cache);
      if (!object || f.slabs.destroy(**cache) != std::unexpected(Error::kBusy)) ++wrong;
      if (object) f.slabs.free(**cache, *object);
      if (!f.slabs.destroy(**cache)) ++wrong;
    }
    if (cpu == 0) done = true;
    f.pages.drain(cpu);
  });
  CHECK_EQ(wrong, 0);
  f.check_nothing_lost();
}

}  // namespace
}  // namespace cadastre
