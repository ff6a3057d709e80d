#include "mm/base/per_cpu.hh"
#include "mm/objects/per_cpu_allocator.hh"

#include <map>
#include <random>
#include <vector>

#include "mm/translation/fault.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr unsigned kCpus = 3;
using Bytes = PerCpuPointer<std::byte>;

struct PerCpuFixture : PageFixture {
  PerCpuFixture() : PageFixture(16 * kMiB) {
    REQUIRE(slabs.init(&log));
    REQUIRE(variables.init(kCpus, &log));
    held = now_held();
  }
  ~PerCpuFixture() { CHECK(variables.close()); }
  std::uint32_t now_held() {
    slabs.shrink_all();
    return counts().hyp;
  }
  SlabAllocator<FakeMachine> slabs{pages};
  PerCpuAllocator<FakeMachine> variables{pages, slabs};
  std::uint32_t held = 0;
};

TEST_CASE("per-CPU: each CPU finds its own variable, on cache lines that are nobody else's") {
  PerCpu<int> numbers;
  const FakeMachine machine({});
  for (unsigned cpu = 0; cpu < kMaxCpus; ++cpu) {
    CHECK_EQ(numbers.of(cpu), 0);
    numbers.of(cpu) = static_cast<int>(cpu);
  }
  FakeMachine::current_cpu = 5;
  CHECK_EQ(numbers.mine(machine), 5);
  FakeMachine::current_cpu = 0;
  const auto distance =
      reinterpret_cast<std::uintptr_t>(&numbers.of(1)) - reinterpret_cast<std::uintptr_t>(&numbers.of(0));
  CHECK_EQ(distance, kCacheLine);
  CHECK_EQ(reinterpret_cast<std::uintptr_t>(&numbers.of(0)) % kCacheLine, 0);
}

TEST_CASE("per-CPU: what is allocated is zeroed, aligned, and at one offset for all CPUs") {
  PerCpuFixture f;
  const Bytes first = *f.variables.alloc(100);
  const Bytes second = *f.variables.alloc(24, 256);
  CHECK_EQ(f.variables.chunks(), 1);
  CHECK_EQ(f.variables.chunk_pages(), 4);
  for (unsigned cpu = 0; cpu < kCpus; ++cpu) {
    CHECK_EQ(&first.of(cpu) - first.address(), static_cast<std::ptrdiff_t>(cpu * kPageSize));
    CHECK_EQ(reinterpret_cast<std::uintptr_t>(&second.of(cpu)) % 256, 0);
    std::memset(&first.of(cpu), 0xff, 100);
    std::memset(&second.of(cpu), 0xff, 24);
  }
  REQUIRE(f.variables.free(first));
  const Bytes again = *f.variables.alloc(104);  // what had been rounded up to
  CHECK_EQ(again.address(), first.address());
  for (unsigned cpu = 0; cpu < kCpus; ++cpu) CHECK_EQ(again.of(cpu), std::byte{0});
  REQUIRE(f.variables.free(again));
  REQUIRE(f.variables.free(second));
  REQUIRE(f.variables.free(Bytes()));
  CHECK_EQ(f.variables.chunks(), 0);
  CHECK_EQ(f.now_held(), f.held);
}

TEST_CASE("per-CPU: a chunk that is full is followed by another, and one that is empty goes") {
  PerCpuFixture f;
  std::vector<Bytes> all(5);
  for (Bytes& pointer : all) pointer = *f.variables.alloc(1500);
  CHECK_EQ(f.variables.chunks(), 3);
  all.push_back(*f.variables.alloc(1000));  // fits beside two of them
  all.push_back(*f.variables.alloc(kPageSize, kPageSize));
  CHECK_EQ(f.variables.chunks(), 4);
  for (const Bytes pointer : all) REQUIRE(f.variables.free(pointer));
  CHECK_EQ(f.variables.chunks(), 0);
  CHECK_EQ(f.now_held(), f.held);
}

TEST_CASE("per-CPU: what makes no sense is refused, a wrong pointer is reported and changes nothing") {
  PerCpuFixture f;
  CHECK_EQ(f.variables.alloc(0).error(), Error::kInvalid);
  CHECK_EQ(f.variables.alloc(kPageSize + 1).error(), Error::kInvalid);
  CHECK_EQ(f.variables.alloc(8, 0).error(), Error::kInvalid);
  CHECK_EQ(f.variables.alloc(8, 24).error(), Error::kInvalid);
  CHECK_EQ(f.variables.alloc(8, 2 * kPageSize).error(), Error::kInvalid);
  const Bytes pointer = *f.variables.alloc(64);
  std::byte local{};
  for (std::byte* wrong :
       {pointer.address() + 1, pointer.address() + 8, &pointer.of(1), pointer.address() + 64, &local}) {
    CHECK_EQ(f.variables.free(Bytes(wrong)).error(), Error::kCorrupt);
    CHECK(f.log.lines.back().ends_with("where nothing starts"));
  }
  REQUIRE(f.variables.free(pointer));
  CHECK_EQ(f.variables.free(pointer).error(), Error::kCorrupt);
}

TEST_CASE("per-CPU: objects are constructed and destroyed on every CPU") {
  PerCpuFixture f;
  static int living;
  living = 0;
  struct Counters {
    Counters() { ++living; }
    ~Counters() { --living; }
    Counters(const Counters&) = delete;
    Counters& operator=(const Counters&) = delete;
    unsigned exits = 7;
  };
  const PerCpuPointer<Counters> counters = *f.variables.create<Counters>();
  CHECK_EQ(living, kCpus);
  counters.mine(f.machine).exits += 1;
  CHECK_EQ(counters.of(0).exits, 8);
  CHECK_EQ(counters.of(1).exits, 7);
  f.variables.destroy(counters);
  CHECK_EQ(living, 0);
}

TEST_CASE("per-CPU: when the Nth allocation fails, everything is as before") {
  PerCpuFixture f;
  FaultInjector pages;
  FaultInjector objects;
  f.pages.set_fault_injector(&pages);
  f.slabs.set_fault_injector(0, &objects);
  f.held = f.now_held();
  for (FaultInjector* fault : {&pages, &objects}) {
    for (std::uint32_t nth = 0;; ++nth) {
      fault->arm(nth);
      const auto made = f.variables.alloc(16);
      fault->disarm();
      if (made) {
        CHECK_GT(nth, 0);
        REQUIRE(f.variables.free(*made));
        break;
      }
      CHECK_EQ(made.error(), Error::kNoMemory);
      CHECK_EQ(f.variables.chunks(), 0);
      CHECK_EQ(f.now_held(), f.held);
    }
  }
  f.slabs.set_fault_injector(0, nullptr);
}

TEST_CASE("per-CPU: random variables never share a byte, and keep what each CPU wrote") {
  PerCpuFixture f;
  std::mt19937_64 random(test_seed());
  const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
  struct Known {
    std::size_t size;
    std::byte value;
  };
  std::map<std::byte*, Known> model;
  const auto value_of = [](std::byte value, unsigned cpu) {
    return static_cast<std::byte>(std::to_integer<unsigned>(value) + cpu);
  };
  for (unsigned step = 0; step < 8000; ++step) {
    if (below(100) < ((step / 1000) % 2 == 0 ? 60U : 40U)) {
      const std::size_t size = 1 + below(below(10) == 0 ? kPageSize : 120);
      const std::size_t align = std::size_t{1} << below(8);
      const Bytes made = *f.variables.alloc(size, align);
      REQUIRE(reinterpret_cast<std::uintptr_t>(made.address()) % align == 0);
      const auto after = model.upper_bound(made.address());
      if (after != model.end()) REQUIRE(made.address() + size <= after->first);
      if (after != model.begin()) REQUIRE(std::prev(after)->first + std::prev(after)->second.size <= made.address());
      const Known known{size, static_cast<std::byte>(below(256))};
      for (unsigned cpu = 0; cpu < kCpus; ++cpu) {
        REQUIRE(std::all_of(&made.of(cpu), &made.of(cpu) + size, [](std::byte b) { return b == std::byte{0}; }));
        std::fill_n(&made.of(cpu), size, value_of(known.value, cpu));
      }
      model.emplace(made.address(), known);
    } else if (!model.empty()) {
      const auto victim = std::next(model.begin(), static_cast<std::ptrdiff_t>(below(model.size())));
      const auto& [address, known] = *victim;
      for (unsigned cpu = 0; cpu < kCpus; ++cpu) {
        const std::byte* bytes = &Bytes(address).of(cpu);
        REQUIRE(std::all_of(bytes, bytes + known.size, [&](std::byte b) { return b == value_of(known.value, cpu); }));
      }
      REQUIRE(f.variables.free(Bytes(address)));
      model.erase(victim);
    }
  }
  for (const auto& [address, known] : model) REQUIRE(f.variables.free(Bytes(address)));
  CHECK_EQ(f.variables.chunks(), 0);
  CHECK_EQ(f.now_held(), f.held);
}

}  // namespace
}  // namespace cadastre
