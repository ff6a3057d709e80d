#include "hyp/selftest.hh"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "arch/armv7/cpu.hh"
#include "arch/armv7/machine.hh"
#include "hyp/audit.hh"
#include "hyp/console.hh"
#include "hyp/cross_call.hh"
#include "hyp/memory.hh"
#include "hyp/random.hh"

namespace cadastre {
namespace {

constexpr unsigned kOperations = 1'000'000;
constexpr unsigned kMostHeld = 256;  // of each kind, by each CPU

struct Failure {
  std::atomic<bool> happened = false;
  std::string_view what;  // the first one's
};

struct Run {
  unsigned cpus = 1;
  unsigned seed = 0;
  ObjectCache* cache = nullptr;
  std::array<std::atomic<unsigned>, kMaxCpus> done{};
  std::atomic<unsigned> refused = 0;  // no memory: an answer, and not a failure
  Failure failure;
};

// What one CPU holds. Each page and object carries a mark that says whose it is, and has it still when it is given back.
class Worker {
 public:
  Worker(Run& run, unsigned cpu) : run_(run), random_(run.seed + cpu * 0x9e3779b9U), cpu_(cpu) {}

  void work(unsigned operations) {
    for (unsigned i = 0; i < operations && !run_.failure.happened.load(std::memory_order_relaxed); ++i) {
      switch (random_.below(4)) {
        case 0:
          page();
          break;
        case 1:
          object();
          break;
        default:
          bytes();
          break;
      }
      run_.done[cpu_].fetch_add(1, std::memory_order_relaxed);
    }
    while (pages_held_ != 0) free_page(pages_held_ - 1);
    while (objects_held_ != 0) free_object(objects_held_ - 1);
    while (bytes_held_ != 0) free_bytes(bytes_held_ - 1);
  }

 private:
  struct Block {
    Pfn first;
    unsigned order;
  };
  struct Bytes {
    std::uint32_t* memory;
    std::uint32_t size;
  };

  void fail(std::string_view what) {
    if (!run_.failure.happened.exchange(true)) run_.failure.what = what;
  }
  [[nodiscard]] std::uint32_t mark(std::uint32_t what) const { return (what * 0x85ebca6bU) ^ (cpu_ + 1); }
  void refused() { run_.refused.fetch_add(1, std::memory_order_relaxed); }

  void with_page(Pfn page, auto&& use) {
    std::byte* window = arch::machine.kmap(page);
    use(*reinterpret_cast<std::uint32_t*>(window));
    arch::machine.kunmap(window);
  }

  void page() {
    if (pages_held_ == kMostHeld || (pages_held_ != 0 && random_.below(2) == 0)) {
      return free_page(random_.below(pages_held_));
    }
    // Mostly single pages, now and then a block; from each kind of zone.
    const unsigned order = random_.below(4) == 0 ? random_.below(kMaxOrder + 1) : 0;
    const AllocFlags where = random_.below(2) == 0 ? kHighmem | kMovable : AllocFlags();
    const Result<Pfn> block = memory.pages.alloc(order, where | kNoWarn);
    if (!block) return refused();
    with_page(*block, [&](std::uint32_t& word) { word = mark(block->value()); });
    pages_[pages_held_++] = {*block, order};
  }
  void free_page(unsigned which) {
    const Block block = pages_[which];
    with_page(block.first, [&](const std::uint32_t& word) {
      if (word != mark(block.first.value())) fail("a page was somebody else's as well");
    });
    memory.pages.free(block.first, block.order);
    pages_[which] = pages_[--pages_held_];
  }

  void object() {
    if (objects_held_ == kMostHeld || (objects_held_ != 0 && random_.below(2) == 0)) {
      return free_object(random_.below(objects_held_));
    }
    const Result<void*> made = memory.slabs.alloc(*run_.cache, kNoWarn);
    if (!made) return refused();
    auto* words = static_cast<std::uint32_t*>(*made);
    *words = mark(static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(words)));
    objects_[objects_held_++] = words;
  }
  void free_object(unsigned which) {
    std::uint32_t* words = objects_[which];
    if (*words != mark(static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(words)))) {
      fail("an object was somebody else's as well");
    }
    memory.slabs.free(*run_.cache, words);
    objects_[which] = objects_[--objects_held_];
  }

  void bytes() {
    if (bytes_held_ == kMostHeld || (bytes_held_ != 0 && random_.below(2) == 0)) {
      return free_bytes(random_.below(bytes_held_));
    }
    const std::uint32_t size = std::max<std::uint32_t>(4, 1U << random_.below(15));  // up to 16 KiB: the last are pages
    const Result<void*> made = memory.slabs.kmalloc(size, kNoWarn);
    if (!made) return refused();
    auto* words = static_cast<std::uint32_t*>(*made);
    words[0] = mark(size);
    words[(size / 4) - 1] = mark(size);
    bytes_[bytes_held_++] = {words, size};
  }
  void free_bytes(unsigned which) {
    const Bytes held = bytes_[which];
    if (held.memory[0] != mark(held.size) || held.memory[(held.size / 4) - 1] != mark(held.size)) {
      fail("memory from kmalloc was somebody else's as well");
    }
    memory.slabs.kfree(held.memory);
    bytes_[which] = bytes_[--bytes_held_];
  }

  Run& run_;
  Random random_;
  const unsigned cpu_;
  std::array<Block, kMostHeld> pages_{};
  std::array<std::uint32_t*, kMostHeld> objects_{};
  std::array<Bytes, kMostHeld> bytes_{};
  unsigned pages_held_ = 0;
  unsigned objects_held_ = 0;
  unsigned bytes_held_ = 0;
};

void work_on_this_cpu(void* argument) {
  Run& run = *static_cast<Run*>(argument);
  const unsigned cpu = arch::this_cpu().index;
  Worker worker(run, cpu);
  worker.work((kOperations + run.cpus - 1) / run.cpus);
  memory.slabs.shrink_all();  // what this CPU has at hand keeps the cache from being destroyed
}

}  // namespace

bool selftest_memory(unsigned cpus, unsigned seed) {
  console.print("selftest: mm: {} operations on {} CPUs, seed={}", kOperations, cpus, seed);
  static Run run;  // the CPUs' stacks are small
  run.cpus = cpus;
  run.seed = seed;
  open_books();
  constexpr std::size_t kObjectSize = 200;
  const Result<ObjectCache*> cache = memory.slabs.create({.name = "selftest", .size = kObjectSize});
  if (!cache) {
    console.print("selftest: mm: failed: {}", to_string(cache.error()));
    return false;
  }
  run.cache = *cache;
  call_on_all_cpus(work_on_this_cpu, &run);
  if (run.failure.happened.load()) {
    console.print("selftest: mm: failed: {}", run.failure.what);
    return false;
  }
  if (const Result<> gone = memory.slabs.destroy(**cache); !gone) {
    console.print("selftest: mm: failed: the cache is not empty: {}", to_string(gone.error()));
    return false;
  }
  unsigned done = 0;
  for (const auto& of_cpu : run.done) done += of_cpu.load();
  console.print("selftest: mm: ok {} operations, {} of them found no memory", done, run.refused.load());
  return audit();
}

}  // namespace cadastre
