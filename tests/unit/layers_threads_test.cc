// The layers above pages and objects, from several CPUs at once.
#include <array>
#include <atomic>
#include <random>
#include <vector>

#include "mm/objects/mempool.hh"
#include "mm/objects/per_cpu_allocator.hh"
#include "mm/objects/vmalloc.hh"
#include "tests/unit/cpu_threads.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/random_runs.hh"
#include "tests/unit/table_environment.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr unsigned kCpus = 3;

struct Layers : PageFixture {
  Layers() : PageFixture(32 * kMiB) { REQUIRE(slabs.init()); }
  // After the threads: what each CPU had at hand is put away.
  std::uint32_t held() {
    for (unsigned cpu = kCpus; cpu-- > 0;) {
      FakeMachine::current_cpu = cpu;
      slabs.shrink_all();
      pages.drain(cpu);
    }
    slabs.shrink_all();
    return counts().hyp;
  }
  SlabAllocator<FakeMachine> slabs{pages};
};

TEST_CASE("mempool: CPUs that share a reserve never hold the same element, and leave it whole") {
  Layers f;
  const std::uint32_t before = f.held();
  PoolPages source(f.pages);
  Mempool pool(source);
  REQUIRE(pool.resize(8));
  std::vector<Pfn> all;  // so that the reserve is all there is
  while (const Result<Pfn> page = f.pages.alloc(0, kAtomic | kNoWarn)) all.push_back(*page);
  const std::uint64_t operations = random_operations(30'000) / kCpus;
  std::atomic<unsigned> wrong = 0;
  run_on_cpus(kCpus, [&](unsigned cpu) {
    std::mt19937_64 random(test_seed() + cpu);
    std::vector<Pfn> out;
    for (std::uint64_t i = 0; i < operations; ++i) {
      if (random() % 2 == 0) {
        const Result<Pfn> page = pool.alloc(kNoWarn | kNoRetry);
        if (!page) continue;
        *f.machine.bytes_at(address_of(*page)) = static_cast<std::byte>(cpu + 1);
        out.push_back(*page);
      } else if (!out.empty()) {
        if (*f.machine.bytes_at(address_of(out.back())) != static_cast<std::byte>(cpu + 1)) ++wrong;
        pool.free(out.back());
        out.pop_back();
      }
    }
    for (const Pfn page : out) pool.free(page);
  });
  CHECK_EQ(wrong, 0);
  CHECK_EQ(pool.available(), 8);
  for (const Pfn page : all) f.pages.free(page, 0);
  REQUIRE(pool.resize(0));
  CHECK_EQ(f.held(), before);
}

TEST_CASE("vmalloc: CPUs map and unmap at once, and a pointer that several of them free is freed once") {
  Layers f;
  LoggingTables environment;
  HypTable<LoggingTables> table(environment, LoggingTables::kRoot);
  Spinlock lock;
  Vmalloc vmalloc(table, lock, f.pages, f.slabs, HypVirtAddr(0xc000'0000), HypVirtAddr(0xc400'0000));
  REQUIRE(vmalloc.init());
  const std::uint32_t before = f.held();
  std::atomic<unsigned> failures = 0;
  std::atomic<unsigned> freed = 0;
  const std::uint64_t rounds = std::max<std::uint64_t>(1, random_operations(5'000) / 1'000);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    std::array<void*, 60> shared{};
    run_on_cpus(kCpus, [&](unsigned cpu) {
      for (std::size_t i = cpu; i < shared.size(); i += kCpus) {
        const Result<void*> made = vmalloc.vmalloc((1 + i % 3) * kPageSize, kZero);
        const Result<void*> mine = vmalloc.ioremap(PhysAddr(0x900'0000), 2 * kPageSize);
        if (!made || !mine || !vmalloc.iounmap(*mine)) ++failures;
        shared[i] = made.value_or(nullptr);
      }
    });
    run_on_cpus(kCpus, [&](unsigned) {
      for (void* pointer : shared) {
        if (vmalloc.vfree(pointer)) ++freed;
      }
    });
  }
  CHECK_EQ(failures, 0);
  CHECK_EQ(freed, rounds * 60);
  CHECK_EQ(f.held(), before);
  CHECK_EQ(environment.allocated(), 0);
  CHECK(vmalloc.close());
}

TEST_CASE("per-CPU: CPUs allocate and free variables at once, and each keeps its own") {
  Layers f;
  PerCpuAllocator variables(f.pages, f.slabs);
  REQUIRE(variables.init(kCpus));
  const std::uint32_t before = f.held();
  const std::uint64_t operations = random_operations(15'000) / kCpus;
  std::atomic<unsigned> wrong = 0;
  run_on_cpus(kCpus, [&](unsigned cpu) {
    std::mt19937_64 random(test_seed() + cpu);
    std::vector<PerCpuPointer<unsigned>> mine;
    for (std::uint64_t i = 0; i < operations; ++i) {
      if (mine.empty() || (random() % 2 == 0 && mine.size() < 1000)) {
        const auto made = variables.create<unsigned>();
        if (!made) {
          ++wrong;
          continue;
        }
        made->mine(f.machine) = cpu + 1;
        mine.push_back(*made);
      } else {
        if (mine.back().mine(f.machine) != cpu + 1) ++wrong;
        variables.destroy(mine.back());
        mine.pop_back();
      }
    }
    for (const auto pointer : mine) variables.destroy(pointer);
  });
  CHECK_EQ(wrong, 0);
  CHECK_EQ(variables.chunks(), 0);
  CHECK_EQ(f.held(), before);
}

}  // namespace
}  // namespace cadastre
