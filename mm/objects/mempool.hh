// A pool that keeps a reserve, so that whoever must not fail while memory is short does not.
//
//   alloc:  the allocator beneath --(fails)--> the reserve --(empty)--> the allocator again, with all that reclaim can do
//   free:   the reserve, until it holds `min_nr` elements --(full)--> the allocator
//
// Who frees memory often has to allocate a little for it: to give one page of a 2 MiB block back takes a table. A pool
// for that little thing, with room for one operation of everyone at once, is what lets it go on. Elements that are out
// come back, so the reserve does.
//
// The reserve is linked through the elements themselves, by words that belong to whoever owns one: there is nothing
// else to allocate. Usage:
//   PoolPages tables_of(pages);   Mempool tables(tables_of);   tables.resize(16);
//   tables.alloc(kZero), tables.free(page)
// and typed, ObjectPool<Request, M> pool(slabs);   pool.init("request", 8);   pool.create(...), pool.destroy(request).
// Lock order: a pool's lock is a leaf; the allocator beneath is called without it.
#pragma once

#include <algorithm>
#include <atomic>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "mm/base/check.hh"
#include "mm/base/error.hh"
#include "mm/base/spinlock.hh"
#include "mm/frames/alloc_flags.hh"
#include "mm/frames/page_allocator.hh"
#include "mm/objects/slab.hh"

namespace cadastre {

// What a pool's elements are, and where they come from.
template <class S>
concept PoolSource = requires(S& source, typename S::Element element, AllocFlags flags) {
  { source.allocate(flags) } -> std::same_as<Result<typename S::Element>>;
  // Each refuses, and reports, what is not in use (or, for `take_back`, not set aside).
  { source.release(element) } -> std::same_as<Result<>>;
  { source.set_aside(element) } -> std::same_as<Result<>>;
  { source.take_back(element) } -> std::same_as<Result<>>;
  source.clear(element);
  // A link for whoever owns the element.
  { source.next(element) } -> std::same_as<typename S::Element>;
  source.set_next(element, element);
};

template <PoolSource S>
class Mempool {
 public:
  using Element = typename S::Element;

  // `source` outlives the pool. The reserve is empty and of size 0 until `resize`.
  explicit constexpr Mempool(S& source) : source_(source) {}
  Mempool(const Mempool&) = delete;
  Mempool& operator=(const Mempool&) = delete;

  // How many elements the reserve keeps from now on: takes what is missing, gives back what is too much. On failure
  // (the source's) all is as before. Others may allocate and free meanwhile, but not resize. `resize(0)` empties it.
  [[nodiscard]] Result<> resize(unsigned min_nr) {
    Chain spare;
    while (available() + spare.count < min_nr) {
      const Result<Element> element = source_.allocate({});
      if (!element) {
        release(spare);
        return std::unexpected(element.error());
      }
      CHECK(source_.set_aside(*element));
      push(spare, *element);
    }
    {
      const SpinlockGuard guard(lock_);
      min_nr_.store(min_nr, std::memory_order_relaxed);
      while (reserve_.count < min_nr && spare.count != 0) push(reserve_, pop(spare));
      while (reserve_.count > min_nr) push(spare, pop(reserve_));
      publish();
    }
    release(spare);
    return {};
  }

  // An element that is the caller's until `free`. Its contents are undefined without kZero. The source's error when
  // it has none and the reserve is empty.
  [[nodiscard]] Result<Element> alloc(AllocFlags flags = {}) {
    if (Result<Element> fresh = source_.allocate(flags | kNoWarn | kNoRetry); fresh) [[likely]]
      return fresh;
    if (const std::optional<Element> kept = take()) {
      if (flags.has(kZero)) source_.clear(*kept);
      return *kept;
    }
    if (flags.has(kNoRetry)) return std::unexpected(Error::kNoMemory);
    return source_.allocate(flags);
  }
  // A wrong element is reported and stops the machine.
  void free(Element element) { CHECK(try_free(element)); }
  // The same, but an element that is not in use, or in the reserve, is reported and answered with kCorrupt, and changes nothing.
  [[nodiscard]] Result<> try_free(Element element) {
    if (available_.load(std::memory_order_relaxed) < min_nr_.load(std::memory_order_relaxed)) [[unlikely]] {
      const SpinlockGuard guard(lock_);
      if (reserve_.count < min_nr_.load(std::memory_order_relaxed)) {
        if (const Result<> aside = source_.set_aside(element); !aside) return aside;
        push(reserve_, element);
        publish();
        return {};
      }
    }
    return source_.release(element);
  }

  [[nodiscard]] unsigned min_nr() const { return min_nr_.load(std::memory_order_relaxed); }
  // Elements in the reserve now.
  [[nodiscard]] unsigned available() const { return available_.load(std::memory_order_relaxed); }

 private:
  struct Chain {
    Element head{};
    unsigned count = 0;
  };

  // What is in a chain is set aside.
  void push(Chain& chain, Element element) {
    source_.set_next(element, chain.head);
    chain.head = element;
    ++chain.count;
  }
  Element pop(Chain& chain) {
    --chain.count;
    const Element element = chain.head;
    if (chain.count != 0) chain.head = source_.next(element);
    return element;
  }
  void release(Chain& chain) {
    while (chain.count != 0) {
      const Element element = pop(chain);
      CHECK(source_.take_back(element));
      CHECK(source_.release(element));
    }
  }
  std::optional<Element> take() {
    const SpinlockGuard guard(lock_);
    if (reserve_.count == 0) return std::nullopt;
    const Element element = pop(reserve_);
    CHECK(source_.take_back(element));
    publish();
    return element;
  }
  // For who looks without the lock.
  void publish() REQUIRES(lock_) { available_.store(reserve_.count, std::memory_order_relaxed); }

  S& source_;
  Spinlock lock_;
  Chain reserve_ GUARDED_BY(lock_);
  std::atomic<unsigned> available_ = 0;
  std::atomic<unsigned> min_nr_ = 0;
};

// Blocks of 2^order pages, from the zones that `flags` allow.
template <Machine M>
class PoolPages {
 public:
  using Element = Pfn;

  explicit constexpr PoolPages(PageAllocator<M>& pages, unsigned order = 0, AllocFlags flags = {})
      : pages_(pages), order_(order), flags_(flags) {}

  [[nodiscard]] Result<Pfn> allocate(AllocFlags flags) { return pages_.alloc(order_, flags_ | flags); }
  [[nodiscard]] Result<> release(Pfn block) { return pages_.try_free(block, order_); }
  [[nodiscard]] Result<> set_aside(Pfn block) { return pages_.hold(block, order_); }
  [[nodiscard]] Result<> take_back(Pfn block) { return pages_.unhold(block); }
  void clear(Pfn block) {
    for (std::uint32_t i = 0; i < 1U << order_; ++i) {
      std::byte* bytes = pages_.machine().kmap(block + i);
      std::memset(bytes, 0, kPageSize);
      pages_.machine().kunmap(bytes);
    }
  }
  [[nodiscard]] Pfn next(Pfn block) { return Pfn(frame(block).next); }
  void set_next(Pfn block, Pfn next) { frame(block).next = next.value(); }

 private:
  [[nodiscard]] Frame& frame(Pfn block) { return pages_.frames()[pages_.frames().index_of(block)]; }

  PageAllocator<M>& pages_;
  const unsigned order_;
  const AllocFlags flags_;
};

// Objects of a slab cache without a constructor: in the reserve, their first word is a link.
template <Machine M>
class PoolObjects {
 public:
  using Element = void*;

  explicit constexpr PoolObjects(SlabAllocator<M>& slabs, ObjectCache* cache = nullptr)
      : slabs_(slabs), cache_(cache) {}

  // Before the first object is wanted; of at least a pointer's size.
  void set_cache(ObjectCache* cache) { cache_ = cache; }
  [[nodiscard]] ObjectCache& cache() { return *cache_; }

  [[nodiscard]] Result<void*> allocate(AllocFlags flags) { return slabs_.alloc(*cache_, flags); }
  [[nodiscard]] Result<> release(void* object) { return slabs_.try_free(*cache_, object); }
  [[nodiscard]] Result<> set_aside(void* object) { return slabs_.hold(*cache_, object); }
  [[nodiscard]] Result<> take_back(void* object) { return slabs_.unhold(*cache_, object); }
  void clear(void* object) { std::memset(object, 0, cache_->size()); }
  [[nodiscard]] void* next(void* object) { return *std::launder(static_cast<void**>(object)); }
  void set_next(void* object, void* next) { std::construct_at(static_cast<void**>(object), next); }

 private:
  SlabAllocator<M>& slabs_;
  ObjectCache* cache_;
};

// Objects of one type, of a cache of their own: constructed when allocated, destroyed when freed.
template <class T, Machine M>
class ObjectPool {
 public:
  explicit constexpr ObjectPool(SlabAllocator<M>& slabs) : slabs_(slabs), objects_(slabs), pool_(objects_) {}
  ObjectPool(const ObjectPool&) = delete;
  ObjectPool& operator=(const ObjectPool&) = delete;

  // Fails as SlabAllocator::create and Mempool::resize do, with nothing left behind. `name` outlives the pool.
  [[nodiscard]] Result<> init(std::string_view name, unsigned min_nr, SlabFlags flags = kDefaultSlabFlags) {
    constexpr std::size_t kSize = std::max(sizeof(T), sizeof(void*));
    constexpr std::size_t kAlign = std::max(alignof(T), alignof(void*));
    const Result<ObjectCache*> cache = slabs_.create({.name = name, .size = kSize, .align = kAlign, .flags = flags});
    if (!cache) return std::unexpected(cache.error());
    objects_.set_cache(*cache);
    const Result<> filled = pool_.resize(min_nr);
    if (!filled) CHECK(close());
    return filled;
  }
  // kBusy, with its reserve empty, while objects live.
  [[nodiscard]] Result<> close() {
    CHECK(pool_.resize(0));
    return slabs_.destroy(objects_.cache());
  }
  [[nodiscard]] Result<> resize(unsigned min_nr) { return pool_.resize(min_nr); }
  [[nodiscard]] unsigned available() const { return pool_.available(); }

  template <class... Arguments>
  [[nodiscard]] Result<T*> create(Arguments&&... arguments) {
    const Result<void*> memory = pool_.alloc();
    if (!memory) return std::unexpected(memory.error());
    return std::construct_at(static_cast<T*>(*memory), std::forward<Arguments>(arguments)...);
  }
  void destroy(T* object) {
    std::destroy_at(object);
    pool_.free(object);
  }

 private:
  SlabAllocator<M>& slabs_;
  PoolObjects<M> objects_;
  Mempool<PoolObjects<M>> pool_;
};

}  // namespace cadastre
