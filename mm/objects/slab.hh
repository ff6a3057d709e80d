// Objects: slabs are blocks of pages cut into objects of one size. SLUB's manner: a CPU allocates from a slab of
// its own without a lock, and anyone frees into any slab with one atomic exchange.
//
//   slab    [ object ][ object ][ object ] ... [ rest ]   2^order pages; first Frame: state kSlab, owner = the cache
//   object  [ red zone ][ the object ][ red zone ][ history ]             all but the object only when debugging
//   links   [ 3 ][ in use ][ end ][ in use ] ...     a byte an object, after the last object, or in the slab's second Frame
//
//   a slab is    the current one of a CPU     frozen: that CPU has taken its free objects to itself
//                on a CPU's partial list      frozen
//                on its node's partial list   with at least one free object
//                on no list                   full
//
// The frame's value word says which object is free first, how many are in use, and whether the slab is frozen. An object's
// link is the number of the free one after it, or says that the object is in use. So a free list is not in what users write
// to, a free is refused unless the pointer is to the first byte of an object that is in use, and no object is handed out
// twice: should two CPUs free one in the very same moment, and both succeed, its second allocation is refused and reported.
//
// Usage:  SlabAllocator slabs(pages);  slabs.init();  then  slabs.kmalloc(100), slabs.kfree(p),
//         slabs.create({.name = "vcpu", .size = ...}), and above it the typed SlabCache<Vcpu>.
// CPUs as in page_allocator.hh. Lock order: the list of caches, a node's list, then what the page allocator takes.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <utility>

#include "mm/frames/page_allocator.hh"

namespace cadastre {

// Checks of a cache. Each costs time; all of them together find what C++ does not.
class SlabFlags {
 public:
  constexpr SlabFlags() = default;
  explicit constexpr SlabFlags(unsigned bits) : bits_(bits) {}
  [[nodiscard]] constexpr bool has(SlabFlags flag) const { return (bits_ & flag.bits_) != 0; }
  friend constexpr SlabFlags operator|(SlabFlags a, SlabFlags b) { return SlabFlags(a.bits_ | b.bits_); }

 private:
  unsigned bits_ = 0;
};
inline constexpr SlabFlags kRedZone{1U << 0U};        // bytes around each object that nobody may write
inline constexpr SlabFlags kPoisonObjects{1U << 1U};  // free objects are filled, and checked when allocated
inline constexpr SlabFlags kObjectHistory{1U << 2U};  // who last allocated and freed each object
inline constexpr SlabFlags kCacheAligned{1U << 3U};   // at least a cache line's alignment
#ifdef NDEBUG
inline constexpr SlabFlags kDefaultSlabFlags{};
#else
inline constexpr SlabFlags kDefaultSlabFlags = kRedZone | kPoisonObjects;
#endif

struct CacheConfig {
  std::string_view name;  // outlives the cache
  std::size_t size = 0;   // of an object, in bytes
  std::size_t align = sizeof(void*);
  SlabFlags flags = kDefaultSlabFlags;
  void (*constructor)(void* object) =
      nullptr;  // runs once, when the slab is made; a freed object is in that state again
};

// What slabs are made of.
class SlabPages {
 public:
  [[nodiscard]] virtual Result<std::byte*> get(unsigned cpu, unsigned order, AllocFlags flags) = 0;
  virtual void put(unsigned cpu, std::byte* block, unsigned order) = 0;
  // kNoFrame for what is not in the linear map's RAM.
  [[nodiscard]] virtual FrameIndex frame_of(const void* pointer) = 0;
  [[nodiscard]] virtual std::byte* address_of(FrameIndex frame) = 0;
  [[nodiscard]] virtual PageAllocatorBase& pages() = 0;

 protected:
  ~SlabPages() = default;
};

struct CacheInfo {
  std::string_view name;
  std::size_t size = 0;
  std::size_t stride = 0;  // from one object to the next
  unsigned order = 0;
  unsigned objects_per_slab = 0;
  std::uint32_t slabs = 0;
  std::uint32_t objects = 0;
  std::uint32_t active = 0;  // those that other CPUs have at hand included
};

// One cache: objects of one size. Made by SlabAllocatorBase::create.
class ObjectCache {
 public:
  constexpr ObjectCache() = default;
  ObjectCache(const ObjectCache&) = delete;
  ObjectCache& operator=(const ObjectCache&) = delete;

  [[nodiscard]] std::string_view name() const { return config_.name; }
  [[nodiscard]] std::size_t size() const { return config_.size; }
  [[nodiscard]] std::uint8_t id() const { return id_; }
  [[nodiscard]] unsigned order() const { return order_; }
  [[nodiscard]] unsigned objects_per_slab() const { return objects_; }

  [[nodiscard]] bool has_constructor() const { return config_.constructor != nullptr; }

  // nullptr: this CPU has none at hand.
  [[nodiscard, gnu::always_inline]] void* alloc_fast(unsigned cpu) {
    CpuSlab& mine = cpus_[cpu];
    const unsigned number = mine.free;
    if (number == kEnd) [[unlikely]]
      return nullptr;
    const std::uint8_t next = relaxed_load(mine.links[number]);
    if (next == kInUse) [[unlikely]]
      return nullptr;
    relaxed_store(mine.links[number], kInUse);
    mine.free = next;
    return mine.first + number * stride_;
  }
  // False unless it is an object of this CPU's current slab, and in use.
  [[nodiscard, gnu::always_inline]] bool free_fast(unsigned cpu, void* pointer) {
    CpuSlab& mine = cpus_[cpu];
    const std::uintptr_t offset =
        reinterpret_cast<std::uintptr_t>(pointer) - reinterpret_cast<std::uintptr_t>(mine.first);
    if (offset >= mine.size) [[unlikely]]
      return false;
    const std::uint32_t number = quotient(static_cast<std::uint32_t>(offset));
    if (number * stride_ != offset || relaxed_load(mine.links[number]) != kInUse) [[unlikely]]
      return false;
    relaxed_store(mine.links[number], mine.free);
    mine.free = static_cast<std::uint8_t>(number);
    return true;
  }

 private:
  friend class SlabAllocatorBase;

  // An object's link.
  static constexpr std::uint8_t kInUse = 0xff;
  static constexpr std::uint8_t kHeld = 0xfe;  // in use, but kept aside: not to be freed
  static constexpr std::uint8_t kEnd = 0xfd;   // free, and the last of its list
  static constexpr std::uint32_t kMaxObjects = kEnd;

  struct alignas(64) CpuSlab {
    std::byte* first = nullptr;     // the current slab's first object
    std::uint8_t* links = nullptr;  // and its links
    std::uint32_t size = 0;         // of its objects together; 0: no slab is there
    std::uint8_t free = kEnd;       // the first free object that this CPU has taken
    FrameIndex slab = kNoFrame;
    FrameIndex partial = kNoFrame;  // more slabs, linked through `next`
    std::uint32_t partial_count = 0;
  };
  struct NodeSlabs {
    Spinlock lock;
    FrameList partial GUARDED_BY(lock);
    std::uint32_t count GUARDED_BY(lock) = 0;
  };

  // The frame's value word.
  struct Slab {
    static constexpr unsigned kNone = kEnd;
    unsigned free = kNone;  // the first free object's number
    unsigned in_use = 0;
    bool frozen = false;
    [[nodiscard]] constexpr std::uint32_t packed() const { return free | in_use << 16U | (frozen ? 1U << 31U : 0U); }
    [[nodiscard]] static constexpr Slab unpacked(std::uint32_t word) {
      return {.free = word & 0xffffU, .in_use = word >> 16U & 0x7fffU, .frozen = word >> 31U != 0};
    }
  };

  // offset / stride. Exact below a slab's end: the reciprocal is too large by less than 1, the product by less than
  // offset / 2^32, and that is less than 1 / stride.
  [[nodiscard, gnu::always_inline]] std::uint32_t quotient(std::uint32_t offset) const {
    return static_cast<std::uint32_t>(std::uint64_t{offset} * reciprocal_ >> 32U);
  }

  std::array<CpuSlab, kMaxCpus> cpus_;
  std::uint32_t stride_ = 0;
  std::uint32_t reciprocal_ = 0;  // 2^32 / stride, rounded up
  std::uint32_t objects_ = 0;
  std::uint32_t left_ = 0;          // red zone before the object
  std::uint32_t right_ = 0;         // where the red zone after it ends
  std::uint32_t links_offset_ = 0;  // in the slab; 0: in its second Frame
  std::uintptr_t slab_mask_ = 0;
  std::uint8_t order_ = 0;
  std::uint8_t id_ = 0;
  bool checked_ = false;  // every operation takes the slow path
  bool kmalloc_ = false;  // its objects come from kmalloc
  CacheConfig config_;
  std::array<NodeSlabs, kMaxNodes> nodes_;
  std::uint32_t slabs_ = 0;  // relaxed
};

class SlabAllocatorBase {
 public:
  SlabAllocatorBase(const SlabAllocatorBase&) = delete;
  SlabAllocatorBase& operator=(const SlabAllocatorBase&) = delete;

  static constexpr unsigned kMaxCaches = 64;
  static constexpr std::size_t kMaxKmalloc = 8192;  // larger ones are pages

  // Fails with kInvalid (an alignment that is no power of two, a size of 0 or of more than a slab), kLimit
  // (kMaxCaches), kNoMemory. The cache lives until `destroy`.
  [[nodiscard]] Result<ObjectCache*> create(unsigned cpu, const CacheConfig& config);
  // kBusy while objects live, which the log then names; the cache is as before. Nobody uses the cache meanwhile.
  [[nodiscard]] Result<> destroy(unsigned cpu, ObjectCache& cache);
  // Gives empty slabs back; returns how many pages. Those at hand for other CPUs stay.
  std::uint32_t shrink(unsigned cpu, ObjectCache& cache);
  std::uint32_t shrink_all(unsigned cpu);
  // How many pages `shrink_all` could give back, about: what is empty, and what this CPU has at hand.
  [[nodiscard]] std::uint32_t spare_pages(unsigned cpu) const;

  // Checks of every cache made from now on, kmalloc's too, beside those of its configuration.
  void set_checks(SlabFlags checks) { checks_ = checks; }
  // Objects that the cache has been given back wrongly, and broken ones found.
  [[nodiscard]] std::uint32_t bad_objects() const { return bad_objects_.load(std::memory_order_relaxed); }
  // While no other CPU allocates; nullptr: off.
  void set_fault_injector(unsigned cpu, FaultInjector* fault);
  [[nodiscard]] CacheInfo info(unsigned cpu, const ObjectCache& cache) const;
  // While others allocate, and make and destroy caches.
  void print_slabinfo(unsigned cpu, Log& log) const;
  // Counts and free lists of every slab agree; the first that does not is named. While nobody allocates.
  [[nodiscard]] Result<> audit() const;

 protected:
  constexpr SlabAllocatorBase(SlabPages& pages, FrameTable& frames) : pages_(pages), frames_(frames) {}
  ~SlabAllocatorBase() = default;

  [[nodiscard]] Result<> init_caches(unsigned cpu, Log* log, SlabFlags kmalloc_flags);
  // What an object of this cache cannot be: of a certain zone or node, or both as constructed and zero.
  [[nodiscard, gnu::always_inline]] static bool is_refused(const ObjectCache& cache, AllocFlags flags) {
    return flags.has(kDma | kThisNode) || (flags.has(kZero) && cache.has_constructor());
  }
  [[nodiscard, gnu::noinline]] Result<void*> alloc_slow(unsigned cpu, ObjectCache& cache, AllocFlags flags);
  [[nodiscard, gnu::noinline]] Result<> free_slow(unsigned cpu, ObjectCache& cache, void* pointer);
  [[nodiscard]] Result<> set_held(ObjectCache& cache, void* object, bool held);
  [[nodiscard]] Result<void*> kmalloc_large(unsigned cpu, std::size_t size, AllocFlags flags);
  // `frame` is the one that `pointer` is in.
  [[nodiscard]] Result<> kfree_from(unsigned cpu, FrameIndex frame, void* pointer, const void* caller);
  [[nodiscard]] std::size_t usable_size(const void* pointer) const;  // 0: not from kmalloc

  // 8 16 32 64 96 128 192 256 512 1024 2048 4096 8192
  static constexpr unsigned kSizeClasses = 13;
  static constexpr std::array<std::uint16_t, kSizeClasses> kClassSizes = {8,   16,  32,   64,   96,   128, 192,
                                                                          256, 512, 1024, 2048, 4096, 8192};
  [[nodiscard]] static constexpr unsigned size_class(std::size_t size) {
    if (size <= 192) return kSmallClass[(size + 7) / 8];
    return static_cast<unsigned>(std::bit_width(size - 1)) - 1;
  }

  static constexpr unsigned kMaxSlabOrder = 3;
  static constexpr OwnerId kWholeBlock = 0xff;  // of a block that kmalloc has returned: no cache's number
  static_assert(kMaxCaches <= kWholeBlock);
  // The slab in hand keeps its cache alive. nullptr: no cache's number.
  [[nodiscard, gnu::always_inline]] ObjectCache* cache_at(unsigned id) const NO_THREAD_SAFETY_ANALYSIS {
    return id < kMaxCaches ? caches_[id] : nullptr;
  }

  ObjectCache cache_cache_;  // caches are objects too
  std::array<ObjectCache*, kSizeClasses> kmalloc_{};

 private:
  using Slab = ObjectCache::Slab;

  static constexpr std::array<std::uint8_t, 25> kSmallClass = {0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4,
                                                               5, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 6};

  [[nodiscard]] FrameTable& frames() const { return frames_; }
  [[nodiscard]] Slab slab_at(FrameIndex slab) const;
  bool exchange(FrameIndex slab, Slab& expected, Slab desired) const;
  [[nodiscard]] ObjectCache::NodeSlabs& node_of(ObjectCache& cache, FrameIndex slab) const;

  void undo_init(unsigned cpu);
  [[nodiscard]] Result<> lay_out(ObjectCache& cache, const CacheConfig& config) const;
  [[nodiscard]] Result<std::uint8_t> register_cache(ObjectCache& cache);
  [[nodiscard]] static std::byte* object_at(const ObjectCache& cache, std::byte* slab, unsigned number);
  // The object's number in its slab, or kNone for a pointer that is not to an object's first byte.
  [[nodiscard]] static unsigned number_of(const ObjectCache& cache, const std::byte* slab, const std::byte* object);
  [[nodiscard]] std::uint8_t* links_of(const ObjectCache& cache, FrameIndex slab) const;
  [[nodiscard]] FrameIndex slab_of(const void* pointer) const;

  [[nodiscard]] Result<FrameIndex> make_slab(unsigned cpu, ObjectCache& cache, AllocFlags flags, bool frozen);
  void discard_slab(unsigned cpu, ObjectCache& cache, FrameIndex slab);
  [[nodiscard]] unsigned take_free(const ObjectCache& cache, FrameIndex slab) const;
  void make_current(ObjectCache& cache, ObjectCache::CpuSlab& mine, FrameIndex slab, unsigned free) const;
  [[nodiscard]] bool refill(unsigned cpu, ObjectCache& cache, AllocFlags flags);
  [[nodiscard]] FrameIndex take_partial(ObjectCache& cache, NodeId nid);
  [[nodiscard]] FrameIndex any_partial(unsigned cpu, ObjectCache& cache, bool other_nodes);
  void keep_partial(unsigned cpu, ObjectCache& cache, FrameIndex slab);
  void release_partials(unsigned cpu, ObjectCache& cache, unsigned of_cpu);
  void flush(unsigned cpu, ObjectCache& cache, unsigned of_cpu);
  void flush_all(unsigned cpu, ObjectCache& cache);
  [[nodiscard]] Result<> free_into(unsigned cpu, ObjectCache& cache, FrameIndex slab, std::byte* object,
                                   const void* caller);
  void push_free(unsigned cpu, ObjectCache& cache, FrameIndex slab, unsigned number);
  [[nodiscard]] Result<FrameIndex> slab_for(ObjectCache& cache, const void* pointer);

  // Checked caches: one object at a time, under the node's lock.
  [[nodiscard]] Result<void*> alloc_checked(unsigned cpu, ObjectCache& cache, AllocFlags flags, const void* caller);
  void free_checked(unsigned cpu, ObjectCache& cache, FrameIndex slab, unsigned number, const void* caller);
  struct ObjectHistory {
    const void* allocated_by = nullptr;  // return addresses
    const void* freed_by = nullptr;
  };
  // nullptr: the cache keeps none.
  [[nodiscard]] static ObjectHistory* history_of(const ObjectCache& cache, std::byte* object);
  void prepare_object(const ObjectCache& cache, std::byte* object, bool in_use) const;
  bool check_object(const ObjectCache& cache, const std::byte* object, bool in_use);
  void report(const ObjectCache& cache, std::string_view what, const void* object);
  template <class Visit>
  void for_each_slab(const ObjectCache& cache, Visit visit) const;
  [[nodiscard]] Result<std::uint32_t> count_free(const ObjectCache& cache, FrameIndex slab) const;
  [[nodiscard]] bool name_live_objects(ObjectCache& cache);

  SlabPages& pages_;
  FrameTable& frames_;
  Log* log_ = nullptr;
  SlabFlags checks_;
  FaultInjector* fault_ = nullptr;
  std::atomic<std::uint32_t> bad_objects_ = 0;
  mutable Spinlock caches_lock_;
  std::array<ObjectCache*, kMaxCaches> caches_ GUARDED_BY(caches_lock_){};  // read without it for a cache known to live
};

template <Machine M>
class SlabAllocator final : private SlabPages, public SlabAllocatorBase {
 public:
  explicit constexpr SlabAllocator(PageAllocator<M>& pages)
      : SlabAllocatorBase(static_cast<SlabPages&>(*this), pages.frames()), page_allocator_(pages) {
    recent_.fill({.cache = &cache_cache_});
  }

  // Once, after the page allocator has its pages. `flags` are the kmalloc caches'.
  [[nodiscard]] Result<> init(Log* log = nullptr, SlabFlags flags = kDefaultSlabFlags) {
    const Result<> made = init_caches(cpu(), log, flags);
    if (made) recent_.fill({.cache = kmalloc_[0]});
    return made;
  }

  using SlabAllocatorBase::create;
  using SlabAllocatorBase::destroy;
  using SlabAllocatorBase::shrink;
  [[nodiscard]] Result<ObjectCache*> create(const CacheConfig& config) { return create(cpu(), config); }
  [[nodiscard]] Result<> destroy(ObjectCache& cache) { return destroy(cpu(), cache); }
  std::uint32_t shrink(ObjectCache& cache) { return shrink(cpu(), cache); }
  std::uint32_t shrink_all() { return SlabAllocatorBase::shrink_all(cpu()); }
  [[nodiscard]] std::uint32_t spare_pages() const { return SlabAllocatorBase::spare_pages(cpu()); }

  // An object that is the caller's until `free`; kNoMemory when there is no page for another slab. Contents
  // undefined, but for kZero, and for caches with a constructor. kInvalid: kDma or kThisNode, since a cache's slabs are
  // wherever there is low memory; and kZero of a cache with a constructor, whose objects would not be as constructed any more.
  [[nodiscard, gnu::always_inline]] Result<void*> alloc(ObjectCache& cache, AllocFlags flags = {}) {
    if (is_refused(cache, flags)) [[unlikely]]
      return std::unexpected(Error::kInvalid);
    void* object = cache.alloc_fast(cpu());
    if (object == nullptr) [[unlikely]]
      return alloc_slow(cpu(), cache, flags);
    if (flags.has(kZero)) std::memset(object, 0, cache.size());
    return object;
  }
  // A wrong pointer is reported and stops the machine.
  [[gnu::always_inline]] void free(ObjectCache& cache, void* object) {
    if (!cache.free_fast(cpu(), object)) [[unlikely]]
      CHECK(free_slow(cpu(), cache, object));
  }
  // The same, but a wrong pointer is reported and answered with kCorrupt, and the object stays allocated.
  [[nodiscard]] Result<> try_free(ObjectCache& cache, void* object) {
    if (cache.free_fast(cpu(), object)) return {};
    return free_slow(cpu(), cache, object);
  }
  // Keeps an object that is in use from being freed, and ends that: for who puts it aside. kCorrupt, reported, for what is no
  // object in use of the cache, or not held.
  [[nodiscard]] Result<> hold(ObjectCache& cache, void* object) { return set_held(cache, object, true); }
  [[nodiscard]] Result<> unhold(ObjectCache& cache, void* object) { return set_held(cache, object, false); }
  // All of them, or none and an error.
  [[nodiscard]] Result<> alloc_bulk(ObjectCache& cache, std::span<void*> objects, AllocFlags flags = {}) {
    for (std::size_t i = 0; i < objects.size(); ++i) {
      const Result<void*> object = alloc(cache, flags);
      if (!object) {
        free_bulk(cache, objects.first(i));
        return std::unexpected(object.error());
      }
      objects[i] = *object;
    }
    return {};
  }
  void free_bulk(ObjectCache& cache, std::span<void* const> objects) {
    for (void* object : objects) free(cache, object);
  }

  // Memory of any size, aligned to 8, and to its size for powers of two up to a page. kInvalid for 0 bytes. What is to be of
  // a certain zone or node (kDma, kThisNode) is whole pages, whatever its size.
  [[nodiscard, gnu::always_inline]] Result<void*> kmalloc(std::size_t size, AllocFlags flags = {}) {
    if (size - 1 >= kMaxKmalloc || flags.has(kDma | kThisNode)) [[unlikely]]
      return kmalloc_large(cpu(), size, flags);
    ObjectCache* cache = kmalloc_[size_class(size)];
    recent_[cpu()].cache = cache;
    return alloc(*cache, flags);
  }
  // nullptr is nothing to free. A pointer that kmalloc did not return, or that is free already, is reported and stops the
  // machine; `try_kfree` answers with kCorrupt, and changes nothing.
  [[gnu::always_inline]] void kfree(void* pointer) {
    if (!recent_[cpu()].cache->free_fast(cpu(), pointer)) [[unlikely]]
      CHECK(try_kfree(pointer));
  }
  [[nodiscard, gnu::noinline]] Result<> try_kfree(void* pointer) {
    if (pointer == nullptr) return {};
    return kfree_from(cpu(), SlabAllocator::frame_of(pointer), pointer, __builtin_return_address(0));
  }
  // `pointer` (or nullptr) with room for `size` bytes; on failure it is as before and still the caller's.
  [[nodiscard]] Result<void*> krealloc(void* pointer, std::size_t size, AllocFlags flags = {}) {
    const std::size_t old_size = pointer == nullptr ? 0 : usable_size(pointer);
    if (pointer != nullptr && old_size == 0) return std::unexpected(Error::kCorrupt);
    if (size <= old_size && size != 0) return pointer;
    Result<void*> moved = kmalloc(size, flags);
    if (!moved || pointer == nullptr) return moved;
    std::memcpy(*moved, pointer, old_size);
    kfree(pointer);
    return moved;
  }
  // How much fits where `pointer` is; 0 for what kmalloc did not return.
  [[nodiscard]] std::size_t ksize(const void* pointer) const { return usable_size(pointer); }

 private:
  [[nodiscard]] unsigned cpu() const { return page_allocator_.machine().cpu(); }

  // The kmalloc cache of a CPU's last kmalloc. What is freed soon after it was allocated is found there, without a frame to look at.
  struct alignas(64) Recent {
    ObjectCache* cache = nullptr;  // never null; one that lives as long as this
  };
  std::array<Recent, kMaxCpus> recent_;

  [[nodiscard]] Result<std::byte*> get(unsigned /*cpu*/, unsigned order, AllocFlags flags) override {
    const Result<Pfn> block = page_allocator_.alloc(order, flags);
    if (!block) return std::unexpected(block.error());
    return page_allocator_.machine().linear(cadastre::address_of(*block));
  }
  void put(unsigned /*cpu*/, std::byte* block, unsigned order) override {
    page_allocator_.free(cadastre::frame_of(page_allocator_.machine().linear_address(block)), order);
  }
  [[nodiscard]] FrameIndex frame_of(const void* pointer) override {
    return page_allocator_.frames().index_of(cadastre::frame_of(page_allocator_.machine().linear_address(pointer)));
  }
  [[nodiscard]] std::byte* address_of(FrameIndex frame) override {
    return page_allocator_.machine().linear(cadastre::address_of(page_allocator_.frames().pfn_of(frame)));
  }
  [[nodiscard]] PageAllocatorBase& pages() override { return page_allocator_; }

  PageAllocator<M>& page_allocator_;
};

// Objects of one type: constructed when allocated, destroyed when freed.
template <class T, Machine M>
class SlabCache {
 public:
  explicit constexpr SlabCache(SlabAllocator<M>& slabs) : slabs_(slabs) {}
  SlabCache(const SlabCache&) = delete;
  SlabCache& operator=(const SlabCache&) = delete;

  [[nodiscard]] Result<> init(std::string_view name, SlabFlags flags = kDefaultSlabFlags) {
    const Result<ObjectCache*> made =
        slabs_.create({.name = name, .size = sizeof(T), .align = alignof(T), .flags = flags});
    if (!made) return std::unexpected(made.error());
    cache_ = *made;
    return {};
  }
  // kBusy while objects live.
  [[nodiscard]] Result<> close() {
    if (const Result<> destroyed = slabs_.destroy(*cache_); !destroyed) return destroyed;
    cache_ = nullptr;
    return {};
  }

  template <class... Arguments>
  [[nodiscard]] Result<T*> create(Arguments&&... arguments) {
    const Result<void*> memory = slabs_.alloc(*cache_);
    if (!memory) return std::unexpected(memory.error());
    return std::construct_at(static_cast<T*>(*memory), std::forward<Arguments>(arguments)...);
  }
  void destroy(T* object) {
    std::destroy_at(object);
    slabs_.free(*cache_, object);
  }

 private:
  SlabAllocator<M>& slabs_;
  ObjectCache* cache_ = nullptr;
};

}  // namespace cadastre
