// Variables of which each CPU has its own, allocated. What PerCpuAllocator hands out is at the same offset in every CPU's
// unit, so a pointer is one address, and a CPU's own is that plus its number of units.
//
//   chunk   [ unit of CPU 0: a page ][ unit of CPU 1 ][ unit of CPU 2 ] ...      one block of 2^n pages
//             [a ][b ][free      ]     [a'][b'][free ]
//
//   PerCpuAllocator counters(pages, slabs);   counters.init(cpus);
//   Result<PerCpuPointer<Counters>> mine = counters.create<Counters>();   mine->of(cpu).exits += 1;
//
// The allocator itself is anybody's. Lock order: its lock is a leaf.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include "mm/base/error.hh"
#include "mm/base/machine.hh"
#include "mm/base/spinlock.hh"
#include "mm/frames/page_allocator.hh"
#include "mm/objects/per_cpu_pointer.hh"  // IWYU pragma: export
#include "mm/objects/slab.hh"

namespace cadastre {

// One chunk's units: which of their granules are taken. The same for each CPU.
class PerCpuChunk {
 public:
  static constexpr std::size_t kUnit = PerCpuPointer<std::byte>::kUnit;
  static constexpr std::size_t kGranule = 8;
  static constexpr std::size_t kGranules = kUnit / kGranule;
  static constexpr std::size_t kNone = kGranules;

  explicit PerCpuChunk(std::byte* first_unit) : base(first_unit) {}

  // The lowest run of so many granules at a multiple of `align` granules, taken; kNone: there is none.
  [[nodiscard]] std::size_t take(std::size_t count, std::size_t align);
  // How many granules what starts at `first` had; 0, and nothing is changed, when nothing starts there.
  std::size_t give_back(std::size_t first);
  [[nodiscard]] bool empty() const { return used_ == 0; }

  std::byte* const base;
  PerCpuChunk* next = nullptr;

 private:
  enum class Granule : std::uint8_t { kFree, kFirst, kRest };
  std::array<Granule, kGranules> granules_{};
  std::size_t used_ = 0;
};

template <Machine M>
class PerCpuAllocator {
 public:
  static constexpr std::size_t kMaxSize = PerCpuChunk::kUnit;

  constexpr PerCpuAllocator(PageAllocator<M>& pages, SlabAllocator<M>& slabs) : pages_(pages), chunk_cache_(slabs) {}
  PerCpuAllocator(const PerCpuAllocator&) = delete;
  PerCpuAllocator& operator=(const PerCpuAllocator&) = delete;

  // Once, with the number of CPUs that there can be. Fails as SlabAllocator::create does.
  [[nodiscard]] Result<> init(unsigned cpus, Log* log = nullptr, SlabFlags flags = kDefaultSlabFlags) {
    CHECK(cpus != 0 && cpus <= kMaxCpus);
    cpus_ = cpus;
    log_ = log;
    return chunk_cache_.init("percpu_chunk", flags);
  }
  // kBusy while anything is allocated.
  [[nodiscard]] Result<> close() { return chunk_cache_.close(); }

  // `size` zeroed bytes of each CPU, all at an address that is a multiple of `align`; the caller's until `free`.
  // kInvalid: a size of 0 or above kMaxSize, an alignment that is no power of two or above a page; kNoMemory.
  [[nodiscard]] Result<PerCpuPointer<std::byte>> alloc(std::size_t size, std::size_t align = alignof(std::uint64_t)) {
    if (size == 0 || size > kMaxSize || !std::has_single_bit(align) || align > kPageSize) {
      return std::unexpected(Error::kInvalid);
    }
    const std::size_t count = (size + PerCpuChunk::kGranule - 1) / PerCpuChunk::kGranule;
    const std::size_t granules_apart = std::max(align / PerCpuChunk::kGranule, std::size_t{1});
    std::byte* first = take(count, granules_apart);
    while (first == nullptr) {
      if (const Result<> grown = grow(); !grown) return std::unexpected(grown.error());
      first = take(count, granules_apart);  // unless others were faster, it is there
    }
    for (unsigned cpu = 0; cpu < cpus_; ++cpu) std::memset(first + cpu * PerCpuChunk::kUnit, 0, size);
    return PerCpuPointer<std::byte>(first);
  }
  // What `alloc` did not return, or what is free, is reported and answered with kCorrupt, and changes nothing. Null is
  // nothing to free.
  [[nodiscard]] Result<> free(PerCpuPointer<std::byte> pointer) {
    if (!pointer) return {};
    PerCpuChunk* empty = nullptr;
    if (!give_back(pointer.address(), empty)) {
      if (log_ != nullptr) log_->print("percpu: free of {}, where nothing starts", pointer.address());
      return std::unexpected(Error::kCorrupt);
    }
    if (empty != nullptr) release(*empty);
    return {};
  }

  // A T for each CPU, value-initialised.
  template <class T>
  [[nodiscard]] Result<PerCpuPointer<T>> create() {
    const auto memory = alloc(sizeof(T), alignof(T));  // NOLINT(bugprone-sizeof-expression): a T may be a pointer
    if (!memory) return std::unexpected(memory.error());
    const PerCpuPointer<T> made(memory->address());
    for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
      std::construct_at(reinterpret_cast<T*>(memory->address() + cpu * PerCpuChunk::kUnit));
    }
    return made;
  }
  template <class T>
  void destroy(PerCpuPointer<T> pointer) {
    if (!pointer) return;
    for (unsigned cpu = 0; cpu < cpus_; ++cpu) std::destroy_at(&pointer.of(cpu));
    CHECK(free(PerCpuPointer<std::byte>(pointer.address())));
  }

  [[nodiscard]] unsigned cpus() const { return cpus_; }
  // Chunks in use, each of `chunk_pages` pages.
  [[nodiscard]] unsigned chunks() const { return chunk_count_.load(std::memory_order_relaxed); }
  [[nodiscard]] unsigned chunk_pages() const { return 1U << order(); }

 private:
  [[nodiscard]] unsigned order() const { return static_cast<unsigned>(std::bit_width(cpus_ - 1)); }

  [[nodiscard]] std::byte* take(std::size_t count, std::size_t align) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    for (PerCpuChunk* chunk = first_; chunk != nullptr; chunk = chunk->next) {
      const std::size_t granule = chunk->take(count, align);
      if (granule != PerCpuChunk::kNone) return chunk->base + granule * PerCpuChunk::kGranule;
    }
    return nullptr;
  }
  // False when nothing starts there. `empty` is a chunk that has come off the list.
  [[nodiscard]] bool give_back(const std::byte* address, PerCpuChunk*& empty) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    for (PerCpuChunk** link = &first_; *link != nullptr; link = &(*link)->next) {
      PerCpuChunk& chunk = **link;
      const std::uintptr_t offset =
          reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(chunk.base);
      if (offset >= PerCpuChunk::kUnit) continue;
      if (offset % PerCpuChunk::kGranule != 0 || chunk.give_back(offset / PerCpuChunk::kGranule) == 0) return false;
      if (chunk.empty()) {
        empty = &chunk;
        *link = chunk.next;
      }
      return true;
    }
    return false;
  }
  [[nodiscard]] Result<> grow() {
    const Result<Pfn> block = pages_.alloc(order());
    if (!block) return std::unexpected(block.error());
    const Result<PerCpuChunk*> chunk = chunk_cache_.create(pages_.machine().linear(address_of(*block)));
    if (!chunk) {
      pages_.free(*block, order());
      return std::unexpected(chunk.error());
    }
    chunk_count_.fetch_add(1, std::memory_order_relaxed);
    const SpinlockGuard guard(lock_);
    (*chunk)->next = first_;
    first_ = *chunk;
    return {};
  }
  void release(PerCpuChunk& chunk) {
    chunk_count_.fetch_sub(1, std::memory_order_relaxed);
    pages_.free(frame_of(pages_.machine().linear_address(chunk.base)), order());
    chunk_cache_.destroy(&chunk);
  }

  PageAllocator<M>& pages_;
  SlabCache<PerCpuChunk, M> chunk_cache_;
  unsigned cpus_ = 1;
  Log* log_ = nullptr;
  std::atomic<unsigned> chunk_count_ = 0;
  Spinlock lock_;
  PerCpuChunk* first_ GUARDED_BY(lock_) = nullptr;
};

}  // namespace cadastre
