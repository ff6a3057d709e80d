// The layers above pages and objects, from several CPUs at once.
#include <array>
#include <atomic>
#include <cstring>
#include <random>
#include <vector>

#include "mm/frames/cma.hh"
#include "mm/objects/mempool.hh"
#include "mm/objects/per_cpu_allocator.hh"
#include "mm/objects/slab_shrinker.hh"
#include "mm/objects/vmalloc.hh"
#include "tests/unit/cpu_threads.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/random_runs.hh"
#include "tests/unit/shared_guest.hh"
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

// All of them over one allocator that has too little, on several CPUs, with a failure now and then, and mistakes that must not
// matter. What a CPU has, it has alone, until it hands it to another.
struct Crowd : PageFixture {
  static constexpr std::uint64_t kAreaBase = kGiB + 8 * kMiB;
  static constexpr std::uint32_t kAreaPages = 4 * kMiB / kPageSize;

  explicit Crowd(SlabFlags checks)
      : PageFixture({{.base = kGiB, .size = 16 * kMiB}}, {.reserve_base = kAreaBase, .reserve_size = 4 * kMiB}) {
    slabs.set_checks(checks);
    REQUIRE(slabs.init());
    REQUIRE(area.init("crowd", pages, frame_of(PhysAddr(kAreaBase)), kAreaPages, 0, bitmap));
    pages.shrinkers().add(shrinker);
  }
  ~Crowd() { pages.shrinkers().remove(shrinker); }
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  FrameCounts rest() {
    for (unsigned cpu = kCpus; cpu-- > 0;) {
      FakeMachine::current_cpu = cpu;
      slabs.shrink_all();
      pages.drain(cpu);
    }
    slabs.shrink_all();
    pages.drain(0);
    return counts();
  }

  SlabAllocator<FakeMachine> slabs{pages};
  SlabShrinker<FakeMachine> shrinker{slabs};
  std::array<std::uint32_t, CmaArea::bitmap_words(kAreaPages, 0)> bitmap{};
  CmaArea area;
};

// What one CPU of the crowd does.
class Member {
 public:
  using Exchange = std::array<std::atomic<std::uint64_t*>, 64>;

  Member(Crowd& f, ObjectCache& cache, SharedGuest& guest, Exchange& exchange, unsigned cpu)
      : f_(f), cache_(cache), guest_(guest), exchange_(exchange), cpu_(cpu), random_(test_seed() + cpu) {}

  void step() {
    switch (random_() % 10) {
      case 0:
      case 1:
      case 2:
        return pass_on();
      case 3:
      case 4:
        return use_pages();
      case 5:
        return use_cache();
      case 6:
        return use_area();
      default:
        return guest_.touch(static_cast<std::uint32_t>(random_() % SharedGuest::kPages));
    }
  }
  // Of what kmalloc returned: its size is in its first word, and in its last.
  void give_back(std::uint64_t* object) {
    if (object == nullptr) return;
    const std::uint64_t words = *object;
    if (words < 2 || words > kMaxWords || object[words - 1] != words) return void(++wrong);
    auto* bytes = reinterpret_cast<std::byte*>(object);
    if (random_() % 16 == 0 && f_.slabs.try_kfree(bytes + 8)) ++wrong;
    if (random_() % 16 == 0 && f_.slabs.try_free(cache_, object)) ++wrong;
    if (!f_.slabs.try_kfree(object)) ++wrong;
  }

  unsigned wrong = 0;

 private:
  static constexpr std::uint64_t kMaxWords = 4096;

  void pass_on() {
    const std::uint64_t words = 2 + random_() % (random_() % 32 == 0 ? kMaxWords - 2 : 60);
    const auto made = f_.slabs.kmalloc(static_cast<std::size_t>(words) * sizeof(std::uint64_t), kNoWarn);
    auto* object = static_cast<std::uint64_t*>(made.value_or(nullptr));
    if (object != nullptr) object[0] = object[words - 1] = words;
    give_back(exchange_[random_() % exchange_.size()].exchange(object));
  }
  void use_cache() {
    std::array<void*, 12> objects{};
    if (!f_.slabs.alloc_bulk(cache_, objects, kNoWarn)) return;
    for (void* object : objects) std::memset(object, static_cast<int>(cpu_ + 1), cache_.size());
    for (void* object : objects) {
      if (*static_cast<unsigned char*>(object) != cpu_ + 1) ++wrong;
      if (f_.slabs.try_kfree(object)) ++wrong;  // it is not kmalloc's
      if (!f_.slabs.try_free(cache_, object)) ++wrong;
    }
  }
  void use_pages() {
    const auto order = static_cast<unsigned>(random_() % 4);
    const Result<Pfn> block = f_.pages.alloc(order, kNoWarn);
    if (!block) return;
    std::byte* bytes = f_.machine.bytes_at(address_of(*block));
    bytes[0] = bytes[(kPageSize << order) - 1] = static_cast<std::byte>(cpu_ + 1);
    if (f_.pages.try_free(*block, order + 1)) ++wrong;
    if (order != 0 && f_.pages.try_free(*block + 1, 0)) ++wrong;
    if (f_.slabs.try_kfree(bytes)) ++wrong;
    if (bytes[0] != bytes[(kPageSize << order) - 1]) ++wrong;
    if (!f_.pages.try_free(*block, order)) ++wrong;
  }
  void use_area() {
    if (random_() % 8 != 0) return;
    const auto count = static_cast<std::uint32_t>(1 + random_() % 64);
    const Result<Pfn> block = f_.area.alloc(cpu_, count, 0);
    if (!block) return;
    if (f_.pages.try_free(*block, 0)) ++wrong;
    if (!f_.area.release(cpu_, *block, count)) ++wrong;
  }

  Crowd& f_;
  ObjectCache& cache_;
  SharedGuest& guest_;
  Exchange& exchange_;
  const unsigned cpu_;
  std::mt19937_64 random_;
};

TEST_CASE(
    "layers: objects, pages, a guest and an area share too little memory, and mistakes, failures and reclaim lose "
    "nothing") {
  struct Case {
    SlabFlags checks;
    bool fails;
  };
  for (const Case& c : {Case{.checks = SlabFlags{}, .fails = false}, Case{.checks = SlabFlags{}, .fails = true},
                        Case{.checks = kRedZone | kPoisonObjects | kObjectHistory, .fails = true}}) {
    CAPTURE(c.fails);
    Crowd f(c.checks);
    ObjectCache& cache = **f.slabs.create({.name = "member", .size = 200});
    const FrameCounts before = f.rest();
    FaultInjector fault;
    if (c.fails) {
      f.pages.set_fault_injector(&fault);
      f.slabs.set_fault_injector(0, &fault);
    }
    SharedGuest guest(f);
    CrossCalls calls(kCpus);
    CallingCpus others(f, calls);
    Member::Exchange exchange{};
    std::atomic<unsigned> wrong = 0;
    std::vector<Pfn> hoard(1200);  // so that memory is short
    for (Pfn& page : hoard) page = *f.pages.alloc(0);
    const std::uint64_t operations = random_operations(60'000) / kCpus;
    run_on_cpus(kCpus, [&](unsigned cpu) {
      Member member(f, cache, guest, exchange, cpu);
      std::mt19937_64 random(test_seed() + 99);
      for (std::uint64_t i = 0; i < operations; ++i) {
        others.poll();
        if (c.fails && cpu == 0 && i % 32 == 0) fault.arm(static_cast<std::uint32_t>(random() % 64));
        member.step();
      }
      for (std::size_t i = cpu; i < exchange.size(); i += kCpus) member.give_back(exchange[i].exchange(nullptr));
      wrong += member.wrong;
      f.pages.drain(cpu);
      calls.leave(cpu);
    });
    fault.disarm();
    FakeMachine::current_cpu = 0;
    Member last(f, cache, guest, exchange, 0);
    for (auto& slot : exchange) last.give_back(slot.exchange(nullptr));
    CHECK_EQ(wrong + last.wrong, 0);
    CHECK_EQ(guest.wrong, 0);
    if (c.fails) {
      f.slabs.set_fault_injector(0, nullptr);
      f.pages.set_fault_injector(nullptr);
    }
    guest.release();
    for (const Pfn page : hoard) f.pages.free(page, 0);
    const FrameCounts after = f.rest();
    REQUIRE(f.slabs.audit());
    CHECK_EQ(after.free, before.free);
    CHECK_EQ(after.hyp, before.hyp);
    CHECK_EQ(after.cma_idle, Crowd::kAreaPages);
    REQUIRE(f.slabs.destroy(cache));
  }
}

}  // namespace
}  // namespace cadastre
