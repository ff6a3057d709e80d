// The patterns, the same for every allocator. Each reports a counter `ns`: what one operation, or one pair of them, takes,
// the median of the rounds that Google Benchmark makes.
//
//   bulk     each thread takes its share of half of the memory, then gives it back in the same order
//   random   the same, but gives it back in random order: a pair is one of each
//   repeat   takes one and gives it back
//
// An allocator gives two kinds of memory:
//   static void enter(unsigned thread);                                   before anything else on a thread
//   static Block get_block(unsigned order);  static void put_block(Block, unsigned order);    2^order pages
//   static void* get(Source);                static void put(Source, void*);                  objects
// where a source is a size, or the allocator's `cache(size)`: what it has for objects of one size alone.
#pragma once

#include <benchmark/benchmark.h>

#include <time.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace cadastre::bench {

inline constexpr std::size_t kMemory = std::size_t{1} << 30U;
inline constexpr std::size_t kPageBytes = 4096;

// The compiler must have `value` in a register here, and knows nothing of it afterwards. (DoNotOptimize's takes a way through
// memory, which is a good part of what a pair takes.)
template <class T>
[[gnu::always_inline]] inline void use(T& value) {
  asm volatile("" : "+r"(value) : : "memory");
}

class Rounds {
 public:
  // Adds what `count` calls of f(i) take of the thread's own time: others may run on this CPU meanwhile. A look at that clock
  // takes some 0.3 us, so `count` is large.
  template <class F>
  void time(std::size_t count, F&& f) {
    const double start = nanoseconds();
    for (std::size_t i = 0; i < count; ++i) f(i);
    round_ += (nanoseconds() - start) / static_cast<double>(count);
  }
  void end_round() {
    rounds_.push_back(round_);
    round_ = 0;
  }
  void report(benchmark::State& state) {
    const auto middle = rounds_.begin() + static_cast<std::ptrdiff_t>(rounds_.size() / 2);
    std::ranges::nth_element(rounds_, middle);
    state.counters["ns"] = benchmark::Counter(*middle, benchmark::Counter::kAvgThreads);
  }

 private:
  static double nanoseconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return 1e9 * static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec);
  }

  std::vector<double> rounds_;
  double round_ = 0;
};

enum class Part : std::uint8_t { kGet, kPut, kBoth };

template <class Allocator, Part kPart, bool kShuffled>
void take_half(benchmark::State& state) {
  Allocator::enter(static_cast<unsigned>(state.thread_index()));
  const auto order = static_cast<unsigned>(state.range(0));
  const std::size_t count = kMemory / 2 / (kPageBytes << order) / static_cast<std::size_t>(state.threads());
  std::vector<typename Allocator::Block> blocks(count);
  std::mt19937 random(1);
  Rounds rounds;
  Rounds ignored;
  const auto round = [&](Rounds& get, Rounds& put) {
    get.time(count, [&](std::size_t i) { blocks[i] = Allocator::get_block(order); });
    if (kShuffled) std::ranges::shuffle(blocks, random);
    put.time(count, [&](std::size_t i) { Allocator::put_block(blocks[i], order); });
  };
  round(ignored, ignored);
  for (auto _ : state) {
    round(kPart == Part::kPut ? ignored : rounds, kPart == Part::kGet ? ignored : rounds);
    rounds.end_round();
  }
  rounds.report(state);
}

inline constexpr std::array<std::size_t, 6> kSizes = {8, 64, 256, 1024, 4096, 8192};
inline constexpr std::size_t kPairs = 1 << 16;  // between two looks at the clock

template <class Allocator>
void repeat_block(benchmark::State& state) {
  Allocator::enter(static_cast<unsigned>(state.thread_index()));
  const auto order = static_cast<unsigned>(state.range(0));
  Rounds rounds;
  for (auto _ : state) {
    rounds.time(kPairs, [&](std::size_t) {
      auto block = Allocator::get_block(order);
      use(block);
      Allocator::put_block(block, order);
    });
    rounds.end_round();
  }
  rounds.report(state);
}

template <class Allocator, class Source>
void repeat_object(benchmark::State& state, Source source) {
  Rounds rounds;
  for (auto _ : state) {
    rounds.time(kPairs, [&](std::size_t) {
      void* object = Allocator::get(source);
      use(object);
      Allocator::put(source, object);
    });
    rounds.end_round();
  }
  rounds.report(state);
}
template <class Allocator>
void cache_pair(benchmark::State& state) {
  Allocator::enter(static_cast<unsigned>(state.thread_index()));
  repeat_object<Allocator>(state, Allocator::cache(static_cast<std::size_t>(state.range(0))));
}
template <class Allocator>
void object_pair(benchmark::State& state) {
  Allocator::enter(static_cast<unsigned>(state.thread_index()));
  repeat_object<Allocator>(state, static_cast<std::size_t>(state.range(0)));
}

// A pair of a batch: all are taken, then all are given back in the same order.
template <class Allocator>
void object_batch(benchmark::State& state) {
  Allocator::enter(static_cast<unsigned>(state.thread_index()));
  const auto size = static_cast<std::size_t>(state.range(0));
  constexpr std::size_t kBatch = 4096;
  std::vector<void*> objects(kBatch);
  Rounds rounds;
  for (auto _ : state) {
    rounds.time(kBatch, [&](std::size_t i) { objects[i] = Allocator::get(size); });
    benchmark::ClobberMemory();
    rounds.time(kBatch, [&](std::size_t i) { Allocator::put(size, objects[i]); });
    rounds.end_round();
  }
  rounds.report(state);
}

// All of them, named for the script to put side by side.
template <class Allocator>
void register_patterns() {
  const auto blocks = [](const char* name, void (*pattern)(benchmark::State&)) {
    auto* one = benchmark::RegisterBenchmark(name, pattern);
    one->ArgName("order")->Arg(0)->Arg(9)->Threads(1)->Threads(2)->UseRealTime();
  };
  blocks("page bulk get", take_half<Allocator, Part::kGet, false>);
  blocks("page bulk put", take_half<Allocator, Part::kPut, false>);
  blocks("page random pair", take_half<Allocator, Part::kBoth, true>);
  blocks("page repeat pair", repeat_block<Allocator>);
  const auto objects = [](const char* name, void (*pattern)(benchmark::State&)) {
    auto* one = benchmark::RegisterBenchmark(name, pattern);
    for (const std::size_t size : kSizes) one->Arg(static_cast<std::int64_t>(size));
    one->ArgName("size")->Threads(1)->Threads(2)->UseRealTime();
  };
  objects("slab pair", cache_pair<Allocator>);
  objects("kmalloc pair", object_pair<Allocator>);
  objects("kmalloc batch pair", object_batch<Allocator>);
}

}  // namespace cadastre::bench
