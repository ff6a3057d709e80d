#include "hyp/check/selftest.hh"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "arch/armv7/machine.hh"
#include "hyp/check/random.hh"
#include "hyp/core/address_space.hh"
#include "hyp/core/audit.hh"
#include "hyp/core/cma_areas.hh"
#include "hyp/core/console.hh"
#include "hyp/core/cpus.hh"
#include "hyp/core/cross_call.hh"
#include "hyp/core/memory.hh"
#include "mm/base/per_cpu.hh"

namespace cadastre {
namespace {

using arch::machine;

constexpr unsigned kOperations = 1'000'000;
constexpr std::size_t kObjectSize = 200;
constexpr unsigned kPoolReserve = 16;

struct Failure {
  std::atomic<bool> happened = false;
  std::string_view what;  // the first one's
};

struct Run {
  unsigned cpus = 1;
  unsigned seed = 0;
  ObjectCache* cache = nullptr;
  PoolObjects<arch::ArmMachine> pool_objects{memory.slabs};
  Mempool<PoolObjects<arch::ArmMachine>> pool{pool_objects};
  PerCpu<unsigned> done;
  std::atomic<unsigned> refused = 0;  // no memory: an answer, and not a failure
  Failure failure;
};

// Some of what one CPU holds.
template <class T, unsigned kMost>
class Held {
 public:
  [[nodiscard]] bool empty() const { return count_ == 0; }
  void add(const T& one) { all_[count_++] = one; }
  // Whether it is one's turn to go rather than to come.
  [[nodiscard]] bool wants_out(Random& random) const { return count_ == kMost || (count_ != 0 && random.once_in(2)); }
  T take(Random& random) {
    const unsigned which = random.below(count_);
    return std::exchange(all_[which], all_[--count_]);
  }

 private:
  std::array<T, kMost> all_{};
  unsigned count_ = 0;
};

// Each thing that a CPU holds carries a mark that says whose it is, and has it still when it is given back.
class Worker {
 public:
  Worker(Run& run, unsigned cpu) : run_(run), random_(run.seed + cpu * 0x9e3779b9U), cpu_(cpu) {}

  void work(unsigned operations) {
    for (unsigned i = 0; i < operations && !run_.failure.happened.load(std::memory_order_relaxed); ++i) {
      operate();
      ++run_.done.of(cpu_);
    }
    while (!pages_.empty()) free_page();
    while (!objects_.empty()) free_object();
    while (!pool_objects_.empty()) free_pool_object();
    while (!bytes_.empty()) free_bytes();
    while (!areas_.empty()) free_area();
    while (!variables_.empty()) free_variable();
    while (!ranges_.empty()) free_range();
  }

 private:
  struct Block {
    Pfn first;
    unsigned order = 0;
  };
  struct Words {
    std::uint32_t* memory = nullptr;
    std::uint32_t size = 0;  // in bytes
  };
  struct Range {
    CmaArea* area = nullptr;
    Pfn first;
    unsigned pages = 0;
  };
  using Variable = PerCpuPointer<std::byte>;

  // Ranges of frames, page tables and flushes cost many times what an object does: they come seldom.
  void operate() {
    const std::uint32_t what = random_.below(1024);
    if (what < 4) return range();
    if (what < 12) return area();
    if (what < 76) return variable();
    if (what < 204) return pool_object();
    switch (what % 4) {
      case 0:
        return page();
      case 1:
        return object();
      default:
        return bytes();
    }
  }

  void fail(std::string_view what) {
    if (!run_.failure.happened.exchange(true)) run_.failure.what = what;
  }
  void refused() { run_.refused.fetch_add(1, std::memory_order_relaxed); }

  [[nodiscard]] std::uint32_t mark(std::uint32_t what) const { return (what * 0x85ebca6bU) ^ (cpu_ + 1); }
  [[nodiscard]] std::uint32_t mark(const void* what) const {
    return mark(static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(what)));
  }
  // The first and the last word.
  void write_marks(const Words& words) const {
    words.memory[0] = mark(words.size);
    words.memory[(words.size / 4) - 1] = mark(words.size);
  }
  [[nodiscard]] bool has_marks(const Words& words) const {
    return words.memory[0] == mark(words.size) && words.memory[(words.size / 4) - 1] == mark(words.size);
  }
  void mark_page(Pfn page) const {
    std::byte* window = machine.kmap(page);
    *reinterpret_cast<std::uint32_t*>(window) = mark(page.value());
    machine.kunmap(window);
  }
  void check_page(Pfn page, std::string_view complaint) {
    const std::byte* window = machine.kmap(page);
    if (*reinterpret_cast<const std::uint32_t*>(window) != mark(page.value())) fail(complaint);
    machine.kunmap(window);
  }

  void page() {
    if (pages_.wants_out(random_)) return free_page();
    // Mostly single pages, now and then a block; from each kind of zone.
    const unsigned order = random_.once_in(4) ? random_.below(kMaxOrder + 1) : 0;
    const AllocFlags where = random_.once_in(2) ? kHighmem | kMovable : AllocFlags();
    const Result<Pfn> block = memory.pages.alloc(order, where | kNoWarn);
    if (!block) return refused();
    mark_page(*block);
    pages_.add({*block, order});
  }
  void free_page() {
    const Block block = pages_.take(random_);
    check_page(block.first, "a page was somebody else's as well");
    memory.pages.free(block.first, block.order);
  }

  void object() {
    if (objects_.wants_out(random_)) return free_object();
    const Result<void*> made = memory.slabs.alloc(*run_.cache, kNoWarn);
    if (!made) return refused();
    auto* words = static_cast<std::uint32_t*>(*made);
    *words = mark(words);
    objects_.add(words);
  }
  void free_object() {
    std::uint32_t* words = objects_.take(random_);
    if (*words != mark(words)) fail("an object was somebody else's as well");
    memory.slabs.free(*run_.cache, words);
  }

  void pool_object() {
    if (pool_objects_.wants_out(random_)) return free_pool_object();
    const Result<void*> made = run_.pool.alloc(kNoWarn);
    if (!made) return refused();
    auto* words = static_cast<std::uint32_t*>(*made);
    *words = mark(words);
    pool_objects_.add(words);
  }
  void free_pool_object() {
    std::uint32_t* words = pool_objects_.take(random_);
    if (*words != mark(words)) fail("a pool's object was somebody else's as well");
    run_.pool.free(words);
  }

  void bytes() {
    if (bytes_.wants_out(random_)) return free_bytes();
    const std::uint32_t size = std::max<std::uint32_t>(4, 1U << random_.below(15));  // up to 16 KiB: the last are pages
    const Result<void*> made = memory.slabs.kmalloc(size, kNoWarn);
    if (!made) return refused();
    const Words words{static_cast<std::uint32_t*>(*made), size};
    write_marks(words);
    bytes_.add(words);
  }
  void free_bytes() {
    const Words words = bytes_.take(random_);
    if (!has_marks(words)) fail("memory from kmalloc was somebody else's as well");
    memory.slabs.kfree(words.memory);
  }

  // Reached through the tables and this CPU's TLB: addresses that were another area's must lead to the new one's pages.
  void area() {
    if (areas_.wants_out(random_)) return free_area();
    const std::uint32_t size = 4 + 4 * random_.below(4 * kPageSize);  // up to 17 pages
    const Result<void*> made = hyp_space.vmalloc().vmalloc(size, kNoWarn);
    if (!made) return refused();
    const Words words{static_cast<std::uint32_t*>(*made), size};
    write_marks(words);
    areas_.add(words);
  }
  void free_area() {
    const Words words = areas_.take(random_);
    if (!has_marks(words)) fail("memory from vmalloc was somebody else's as well");
    if (!hyp_space.vmalloc().vfree(words.memory)) fail("vfree refused what vmalloc gave");
  }

  void variable() {
    if (variables_.wants_out(random_)) return free_variable();
    const Result<Variable> made = memory.per_cpu.alloc(4 + random_.below(200));
    if (!made) return refused();
    for (unsigned cpu = 0; cpu < run_.cpus; ++cpu) {
      auto* word = reinterpret_cast<std::uint32_t*>(&made->of(cpu));
      if (*word != 0) fail("a per-CPU variable was not zero");
      *word = mark(word);
    }
    variables_.add(*made);
  }
  void free_variable() {
    const Variable variable = variables_.take(random_);
    for (unsigned cpu = 0; cpu < run_.cpus; ++cpu) {
      const auto* word = reinterpret_cast<const std::uint32_t*>(&variable.of(cpu));
      if (*word != mark(word)) fail("a per-CPU variable was somebody else's as well");
    }
    if (!memory.per_cpu.free(variable)) fail("a per-CPU variable could not be freed");
  }

  // Where movable pages are lent to somebody, they stay: nobody here can move them. That, too, is an answer.
  void range() {
    if (ranges_.wants_out(random_)) return free_range();
    const std::span<CmaArea> areas = cma_areas();
    if (areas.empty()) return;
    CmaArea& area = areas[random_.below(static_cast<std::uint32_t>(areas.size()))];
    const unsigned pages = 1 + random_.below(8);
    const Result<Pfn> first = area.alloc(cpu_, pages, random_.below(3));
    if (!first) return refused();
    for (unsigned i = 0; i < pages; ++i) mark_page(*first + i);
    ranges_.add({&area, *first, pages});
  }
  void free_range() {
    const Range range = ranges_.take(random_);
    for (unsigned i = 0; i < range.pages; ++i) check_page(range.first + i, "a CMA page was somebody else's as well");
    if (!range.area->release(cpu_, range.first, range.pages)) fail("a CMA area refused what it had given");
  }

  Run& run_;
  Random random_;
  const unsigned cpu_;
  Held<Block, 256> pages_;
  Held<std::uint32_t*, 256> objects_;
  Held<std::uint32_t*, 64> pool_objects_;
  Held<Words, 256> bytes_;
  Held<Words, 16> areas_;
  Held<Variable, 64> variables_;
  Held<Range, 8> ranges_;
};

void work_on_this_cpu(void* argument) {
  Run& run = *static_cast<Run*>(argument);
  Worker worker(run, machine.cpu());
  worker.work((kOperations + run.cpus - 1) / run.cpus);
  memory.slabs.shrink_all();  // what this CPU has at hand keeps the cache from being destroyed
}

bool failed(std::string_view what) {
  console.print("selftest: mm: failed: {}", what);
  return false;
}

}  // namespace

bool selftest_memory(unsigned cpus, unsigned seed) {
  console.print("selftest: mm: {} operations on {} CPUs, seed={}", kOperations, cpus, seed);
  static Run run;  // the CPUs' stacks are small
  run.cpus = cpus;
  run.seed = seed;
  open_books();
  const Result<ObjectCache*> cache = memory.slabs.create({.name = "selftest", .size = kObjectSize});
  if (!cache) return failed(to_string(cache.error()));
  run.cache = *cache;
  run.pool_objects.set_cache(*cache);
  if (const Result<> filled = run.pool.resize(kPoolReserve); !filled) return failed(to_string(filled.error()));
  // All CPUs are busy until they are done, so none can be asked to drain its lists for a CMA area.
  let_page_lists_drain(false);
  call_on_all_cpus(work_on_this_cpu, &run);
  let_page_lists_drain(true);
  if (run.failure.happened.load()) return failed(run.failure.what);
  if (run.pool.available() != kPoolReserve) return failed("a pool's reserve is not whole");
  if (!run.pool.resize(0) || !memory.slabs.destroy(**cache)) return failed("the cache is not empty");
  unsigned done = 0;
  for (unsigned cpu = 0; cpu < cpus; ++cpu) done += run.done.of(cpu);
  console.print("selftest: mm: ok {} operations, {} of them found no memory", done, run.refused.load());
  return audit();
}

}  // namespace cadastre
