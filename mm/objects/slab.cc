#include "mm/objects/slab.hh"

#include <algorithm>
#include <atomic>

namespace cadastre {
namespace {

constexpr std::uint32_t kMinObjects = 8;        // a slab with fewer had better be larger
constexpr std::uint32_t kCpuPartialSlabs = 4;   // more than that go to the node
constexpr std::uint32_t kNodePartialSlabs = 5;  // empty slabs beyond that go back to the pages
constexpr std::uint32_t kMinStride = 16;        // smaller ones would be more than links count

constexpr std::uint32_t bytes_of(unsigned order) {
  return static_cast<std::uint32_t>(kPageSize) << order;
}

constexpr std::uint32_t round_up(std::uint32_t value, std::uint32_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

}  // namespace

// ---- Layout ----

Result<> SlabAllocatorBase::lay_out(ObjectCache& cache, const CacheConfig& wanted) const {
  CacheConfig config = wanted;
  config.flags = config.flags | checks_;
  constexpr std::uint32_t kWord = sizeof(void*);
  if (config.size == 0 || !std::has_single_bit(config.align) || config.align > kPageSize ||
      config.size > bytes_of(kMaxSlabOrder)) {
    return std::unexpected(Error::kInvalid);
  }
  auto align = std::max(static_cast<std::uint32_t>(config.align), kWord);
  if (config.flags.has(kCacheAligned)) align = std::max(align, 64U);
  const bool red = config.flags.has(kRedZone);
  const bool history = config.flags.has(kObjectHistory);
  const std::uint32_t size = round_up(static_cast<std::uint32_t>(config.size), kWord);
  cache.left_ = red ? align : 0;
  cache.right_ = size + (red ? kWord : 0);
  const std::uint32_t end =
      cache.left_ + cache.right_ + (history ? static_cast<std::uint32_t>(sizeof(ObjectHistory)) : 0);
  cache.stride_ = std::max(round_up(end, align), kMinStride);
  cache.reciprocal_ = ~std::uint32_t{0} / cache.stride_ + 1;
  // With its red zones the largest object may be too large for the largest slab, but not for twice that.
  unsigned order = 0;
  for (;; ++order) {
    const std::uint32_t bytes = bytes_of(order);
    const std::uint32_t fit = bytes / cache.stride_;
    const bool links_in_frame = order != 0 && fit <= Frame::kSpareBytes;
    cache.objects_ = links_in_frame ? fit : std::min(bytes / (cache.stride_ + 1), ObjectCache::kMaxObjects);
    cache.links_offset_ = links_in_frame ? 0 : bytes - cache.objects_;
    const std::uint32_t waste = bytes - cache.objects_ * cache.stride_;
    if (cache.objects_ != 0 && (order >= kMaxSlabOrder || (cache.objects_ >= kMinObjects && waste * 16 <= bytes))) {
      break;
    }
  }
  cache.order_ = static_cast<std::uint8_t>(order);
  cache.slab_mask_ = ~((std::uintptr_t{kPageSize} << order) - 1);
  cache.config_ = config;
  cache.checked_ = config.flags.has(kRedZone | kPoisonObjects | kObjectHistory);
  return {};
}

std::byte* SlabAllocatorBase::object_at(const ObjectCache& cache, std::byte* slab, unsigned number) {
  return slab + std::size_t{number} * cache.stride_ + cache.left_;
}

unsigned SlabAllocatorBase::number_of(const ObjectCache& cache, const std::byte* slab, const std::byte* object) {
  const auto offset = static_cast<std::uint32_t>(object - slab) - cache.left_;
  // Beyond the slab's end the number does not fit the offset or the slab.
  const std::uint32_t number = cache.quotient(offset);
  return number < cache.objects_ && number * cache.stride_ == offset ? number : Slab::kNone;
}

std::uint8_t* SlabAllocatorBase::links_of(const ObjectCache& cache, FrameIndex slab) const {
  if (cache.links_offset_ == 0) return frames()[slab + 1].spare();
  return reinterpret_cast<std::uint8_t*>(pages_.address_of(slab)) + cache.links_offset_;
}

// ---- The slab's word ----

ObjectCache::Slab SlabAllocatorBase::slab_at(FrameIndex slab) const {
  const std::atomic_ref<std::uint32_t> word(frames()[slab].value_field());
  return Slab::unpacked(word.load(std::memory_order_acquire));
}

// False, with `expected` as it is now, when somebody was faster.
bool SlabAllocatorBase::exchange(FrameIndex slab, Slab& expected, Slab desired) const {
  const std::atomic_ref<std::uint32_t> word(frames()[slab].value_field());
  std::uint32_t packed = expected.packed();
  const bool done =
      word.compare_exchange_strong(packed, desired.packed(), std::memory_order_acq_rel, std::memory_order_acquire);
  if (!done) expected = Slab::unpacked(packed);
  return done;
}

ObjectCache::NodeSlabs& SlabAllocatorBase::node_of(ObjectCache& cache, FrameIndex slab) const {
  return cache.nodes_[frames().section_of(slab).nid];
}

FrameIndex SlabAllocatorBase::slab_of(const void* pointer) const {
  const FrameIndex frame = pages_.frame_of(pointer);
  return frame == kNoFrame ? kNoFrame : frames().head_of(frame);
}

// ---- Slabs ----

// With `frozen` all objects are the CPU's, else they are all on the slab's own list.
Result<FrameIndex> SlabAllocatorBase::make_slab(unsigned cpu, ObjectCache& cache, AllocFlags flags, bool frozen) {
  // The objects are cleared one by one; slabs are the hypervisor's own, in low memory.
  const AllocFlags wanted = flags.has(kAtomic) ? kAtomic : AllocFlags{};
  const auto block = pages_.get(cpu, cache.order_, flags.has(kNoWarn) ? wanted | kNoWarn : wanted);
  if (!block) return std::unexpected(block.error());
  const FrameIndex slab = pages_.frame_of(*block);
  Frame& frame = frames()[slab];
  std::uint8_t* links = links_of(cache, slab);
  for (unsigned i = 0; i < cache.objects_; ++i) {
    std::byte* object = object_at(cache, *block, i);
    if (cache.has_constructor()) cache.config_.constructor(object);
    prepare_object(cache, object, false);
    if (ObjectHistory* history = history_of(cache, object); history != nullptr) *history = {};
    relaxed_store(links[i], static_cast<std::uint8_t>(i + 1 < cache.objects_ ? i + 1 : Slab::kNone));
  }
  const Slab word = frozen ? Slab{.free = Slab::kNone, .in_use = cache.objects_, .frozen = true}
                           : Slab{.free = 0, .in_use = 0, .frozen = false};
  frame.set_value(word.packed());
  frame.set_word({.state = FrameState::kSlab, .order = cache.order_, .owner = cache.id_, .references = 1});
  static_assert(may_become(FrameState::kHyp, FrameState::kSlab));
  std::atomic_ref(cache.slabs_).fetch_add(1, std::memory_order_relaxed);
  return slab;
}

// An empty slab that is on no list. Its frame is no slab any more before it is given back: nobody else can do that. That it is
// empty is not only counted: a wrong free that two CPUs made at once counts twice, and must not give away what is in use.
void SlabAllocatorBase::discard_slab(unsigned cpu, ObjectCache& cache, FrameIndex slab) {
  const std::uint8_t* links = links_of(cache, slab);
  for (unsigned i = 0; i < cache.objects_; ++i) {
    if (relaxed_load(links[i]) < ObjectCache::kHeld) continue;
    return report(cache, "a slab that counts as empty stays: an object is in use",
                  object_at(cache, pages_.address_of(slab), i));
  }
  std::atomic_ref(cache.slabs_).fetch_sub(1, std::memory_order_relaxed);
  frames()[slab].set_word({.state = FrameState::kHyp, .order = cache.order_, .references = 1});
  static_assert(may_become(FrameState::kSlab, FrameState::kHyp));
  pages_.put(cpu, pages_.address_of(slab), cache.order_);
}

// ---- The ordinary path ----

// The first of all free objects of a slab that this CPU has frozen; kNone, and not frozen any more, when it has none.
unsigned SlabAllocatorBase::take_free(const ObjectCache& cache, FrameIndex slab) const {
  Slab now = slab_at(slab);
  for (;;) {
    const Slab next{.free = Slab::kNone, .in_use = cache.objects_, .frozen = now.free != Slab::kNone};
    const unsigned first = now.free;
    if (exchange(slab, now, next)) return first;
  }
}

// Takes a slab off a node's list and freezes it.
FrameIndex SlabAllocatorBase::take_partial(ObjectCache& cache, NodeId nid) {
  ObjectCache::NodeSlabs& node = cache.nodes_[nid];
  const SpinlockGuard guard(node.lock);
  if (node.count == 0) return kNoFrame;
  const FrameIndex slab = node.partial.pop_front(frames());
  --node.count;
  Slab now = slab_at(slab);
  Slab next = now;
  do {
    next = now;
    next.frozen = true;
  } while (!exchange(slab, now, next));
  return slab;
}

FrameIndex SlabAllocatorBase::any_partial(unsigned cpu, ObjectCache& cache, bool other_nodes) {
  const NodeId nid = pages_.pages().cpu_node(cpu);
  if (!other_nodes) return take_partial(cache, nid);
  for (unsigned other = 0; other < kMaxNodes; ++other) {
    if (const FrameIndex slab = take_partial(cache, static_cast<NodeId>(other)); slab != kNoFrame) return slab;
  }
  return kNoFrame;
}

// The CPU has nothing at hand: its current slab may have got objects back, then its partial slabs, its node's, a
// new one.
bool SlabAllocatorBase::refill(unsigned cpu, ObjectCache& cache, AllocFlags flags) {
  ObjectCache::CpuSlab& mine = cache.cpus_[cpu];
  const auto adopt = [&](FrameIndex slab) {
    const unsigned free = take_free(cache, slab);
    if (free == Slab::kNone) return false;
    make_current(cache, mine, slab, free);
    return true;
  };
  if (const FrameIndex current = std::exchange(mine.slab, kNoFrame); current != kNoFrame) {
    mine.size = 0;
    if (adopt(current)) return true;
  }
  while (mine.partial != kNoFrame) {
    const FrameIndex slab = std::exchange(mine.partial, frames()[mine.partial].next);
    --mine.partial_count;
    if (adopt(slab)) return true;
  }
  for (FrameIndex slab = any_partial(cpu, cache, false); slab != kNoFrame; slab = any_partial(cpu, cache, false)) {
    if (adopt(slab)) return true;
  }
  if (const auto slab = make_slab(cpu, cache, flags, true)) {
    // Reclaim may have come back here and left this CPU a slab.
    flush(cpu, cache, cpu);
    make_current(cache, mine, *slab, 0);
    return true;
  }
  for (FrameIndex slab = any_partial(cpu, cache, true); slab != kNoFrame; slab = any_partial(cpu, cache, true)) {
    if (adopt(slab)) return true;
  }
  return false;
}

// A slab that this CPU has frozen, with its free objects from `free` on.
void SlabAllocatorBase::make_current(ObjectCache& cache, ObjectCache::CpuSlab& mine, FrameIndex slab,
                                     unsigned free) const {
  mine.first = object_at(cache, pages_.address_of(slab), 0);
  mine.links = links_of(cache, slab);
  mine.size = cache.objects_ * cache.stride_;
  mine.free = static_cast<std::uint8_t>(free);
  mine.slab = slab;
}

Result<void*> SlabAllocatorBase::alloc_slow(unsigned cpu, ObjectCache& cache, AllocFlags flags) {
  if (fault_ != nullptr && fault_->should_fail()) return std::unexpected(Error::kNoMemory);
  if (cache.checked_ || fault_ != nullptr) return alloc_checked(cpu, cache, flags, __builtin_return_address(0));
  ObjectCache::CpuSlab& mine = cache.cpus_[cpu];
  for (;;) {
    if (void* object = cache.alloc_fast(cpu); object != nullptr) {
      if (flags.has(kZero)) std::memset(object, 0, cache.size());
      return object;
    }
    if (mine.free != ObjectCache::kEnd) {
      // Two CPUs freed it at once. Where its list goes on is not known any more.
      report(cache, "an object that is in use was on a free list", mine.first + mine.free * cache.stride_);
      mine.free = ObjectCache::kEnd;
    }
    if (!refill(cpu, cache, flags)) return std::unexpected(Error::kNoMemory);
  }
}

// Where the slab begins that `pointer` is in, if it is this cache's; else something that is not a slab of this cache is there.
Result<FrameIndex> SlabAllocatorBase::slab_for(ObjectCache& cache, const void* pointer) {
  const FrameIndex slab =
      pages_.frame_of(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(pointer) & cache.slab_mask_));
  if (slab == kNoFrame) {
    report(cache, "free of a pointer into no RAM", pointer);
    return std::unexpected(Error::kCorrupt);
  }
  const FrameWord word = frames()[slab].word();
  if (word.state != FrameState::kSlab || word.owner != cache.id_) {
    report(cache, "free of a foreign pointer", pointer);
    return std::unexpected(Error::kCorrupt);
  }
  return slab;
}

Result<> SlabAllocatorBase::free_slow(unsigned cpu, ObjectCache& cache, void* pointer) {
  const Result<FrameIndex> slab = slab_for(cache, pointer);
  if (!slab) return std::unexpected(slab.error());
  return free_into(cpu, cache, *slab, static_cast<std::byte*>(pointer), __builtin_return_address(0));
}

// `object` lies in `slab`, which is `cache`'s.
Result<> SlabAllocatorBase::free_into(unsigned cpu, ObjectCache& cache, FrameIndex slab, std::byte* object,
                                      const void* caller) {
  const auto refuse = [&](std::string_view what) -> Result<> {
    report(cache, what, object);
    return std::unexpected(Error::kCorrupt);
  };
  const unsigned number = number_of(cache, pages_.address_of(slab), object);
  if (number == Slab::kNone) return refuse("free of a misplaced pointer");
  const bool checked = cache.checked_ || fault_ != nullptr;
  if (checked && relaxed_load(links_of(cache, slab)[number]) == ObjectCache::kInUse &&
      !check_object(cache, object, true)) {
    return std::unexpected(Error::kCorrupt);
  }
  // Of several who free it at once, one has it.
  std::uint8_t link = ObjectCache::kInUse;
  if (!std::atomic_ref(links_of(cache, slab)[number])
           .compare_exchange_strong(link, ObjectCache::kEnd, std::memory_order_relaxed)) {
    return refuse(link == ObjectCache::kHeld ? "free of an object that is kept aside" : "double free");
  }
  if (checked) {
    free_checked(cpu, cache, slab, number, caller);
  } else {
    push_free(cpu, cache, slab, number);
  }
  return {};
}

Result<> SlabAllocatorBase::set_held(ObjectCache& cache, void* object, bool held) {
  const Result<FrameIndex> slab = slab_for(cache, object);
  if (!slab) return std::unexpected(slab.error());
  const unsigned number = number_of(cache, pages_.address_of(*slab), static_cast<std::byte*>(object));
  std::uint8_t link = held ? ObjectCache::kInUse : ObjectCache::kHeld;
  const std::uint8_t next = held ? ObjectCache::kHeld : ObjectCache::kInUse;
  if (number != Slab::kNone &&
      std::atomic_ref(links_of(cache, *slab)[number]).compare_exchange_strong(link, next, std::memory_order_relaxed)) {
    return {};
  }
  report(cache, held ? "what is not in use cannot be kept aside" : "what is not kept aside cannot be taken back",
         object);
  return std::unexpected(Error::kCorrupt);
}

// Any CPU, any slab. A slab that was full gets its first free object: this CPU keeps it. One that becomes empty may go.
// The object is free already, as far as its link says.
void SlabAllocatorBase::push_free(unsigned cpu, ObjectCache& cache, FrameIndex slab, unsigned number) {
  std::uint8_t& link = links_of(cache, slab)[number];
  Slab now = slab_at(slab);
  for (;;) {
    const bool was_full = now.free == Slab::kNone;
    const Slab next{.free = number, .in_use = now.in_use - 1, .frozen = now.frozen || was_full};
    relaxed_store(link, static_cast<std::uint8_t>(now.free));
    if (now.frozen || was_full || next.in_use != 0) {
      const bool was_frozen = now.frozen;
      if (!exchange(slab, now, next)) continue;
      if (was_full && !was_frozen) keep_partial(cpu, cache, slab);
      return;
    }
    // The last object of a slab on the node's list: with the lock, so that the list and the word agree.
    bool discard = false;
    {
      ObjectCache::NodeSlabs& node = node_of(cache, slab);
      const SpinlockGuard guard(node.lock);
      if (!exchange(slab, now, next)) continue;
      discard = node.count > kNodePartialSlabs;
      if (discard) {
        node.partial.remove(frames(), slab);
        --node.count;
      }
    }
    if (discard) discard_slab(cpu, cache, slab);
    return;
  }
}

void SlabAllocatorBase::keep_partial(unsigned cpu, ObjectCache& cache, FrameIndex slab) {
  ObjectCache::CpuSlab& mine = cache.cpus_[cpu];
  if (mine.partial_count >= kCpuPartialSlabs) release_partials(cpu, cache, cpu);
  frames()[slab].next = mine.partial;
  mine.partial = slab;
  ++mine.partial_count;
}

// A CPU's partial slabs go to their nodes, the empty ones that are too many back to the pages.
void SlabAllocatorBase::release_partials(unsigned cpu, ObjectCache& cache, unsigned of_cpu) {
  ObjectCache::CpuSlab& theirs = cache.cpus_[of_cpu];
  while (theirs.partial != kNoFrame) {
    const FrameIndex slab = std::exchange(theirs.partial, frames()[theirs.partial].next);
    --theirs.partial_count;
    bool discard = false;
    ObjectCache::NodeSlabs& node = node_of(cache, slab);
    {
      const SpinlockGuard guard(node.lock);
      Slab now = slab_at(slab);
      Slab next = now;
      do {
        next = now;
        next.frozen = false;
      } while (!exchange(slab, now, next));
      discard = next.in_use == 0 && node.count >= kNodePartialSlabs;
      if (!discard) {
        node.partial.push_back(frames(), slab);
        ++node.count;
      }
    }
    if (discard) discard_slab(cpu, cache, slab);
  }
}

// What a CPU has at hand goes back into its slabs, and those to their nodes.
void SlabAllocatorBase::flush(unsigned cpu, ObjectCache& cache, unsigned of_cpu) {
  ObjectCache::CpuSlab& theirs = cache.cpus_[of_cpu];
  if (const FrameIndex slab = std::exchange(theirs.slab, kNoFrame); slab != kNoFrame) {
    theirs.size = 0;
    unsigned number = std::exchange(theirs.free, ObjectCache::kEnd);
    const std::uint8_t* links = theirs.links;
    for (unsigned count = 0; number < cache.objects_ && count < cache.objects_; ++count) {
      const std::uint8_t next = relaxed_load(links[number]);
      push_free(cpu, cache, slab, number);
      number = next;
    }
    // Still frozen: without a free object it is full and on its own, else a partial slab.
    Slab now = slab_at(slab);
    Slab full = now;
    full.frozen = false;
    if (now.free != Slab::kNone || !exchange(slab, now, full)) {
      frames()[slab].next = theirs.partial;
      theirs.partial = slab;
      ++theirs.partial_count;
    }
  }
  release_partials(cpu, cache, of_cpu);
}

void SlabAllocatorBase::flush_all(unsigned cpu, ObjectCache& cache) {
  for (unsigned other = 0; other < kMaxCpus; ++other) flush(cpu, cache, other);
}

// ---- Caches ----

Result<std::uint8_t> SlabAllocatorBase::register_cache(ObjectCache& cache) {
  const SpinlockGuard guard(caches_lock_);
  for (unsigned id = 0; id < kMaxCaches; ++id) {
    if (caches_[id] != nullptr) continue;
    caches_[id] = &cache;
    cache.id_ = static_cast<std::uint8_t>(id);
    return cache.id_;
  }
  return std::unexpected(Error::kLimit);
}

Result<> SlabAllocatorBase::init_caches(unsigned cpu, Log* log, SlabFlags kmalloc_flags) {
  static constexpr std::array<std::string_view, kSizeClasses> kNames = {
      "kmalloc-8",   "kmalloc-16",  "kmalloc-32",   "kmalloc-64",   "kmalloc-96",   "kmalloc-128", "kmalloc-192",
      "kmalloc-256", "kmalloc-512", "kmalloc-1024", "kmalloc-2048", "kmalloc-4096", "kmalloc-8192"};
  log_ = log;
  const CacheConfig caches{.name = "cache", .size = sizeof(ObjectCache), .align = alignof(ObjectCache)};
  if (const auto laid_out = lay_out(cache_cache_, caches); !laid_out) return laid_out;
  if (const auto id = register_cache(cache_cache_); !id) return std::unexpected(id.error());
  for (unsigned i = 0; i < kSizeClasses; ++i) {
    const std::size_t size = kClassSizes[i];
    const auto made = create(cpu, {.name = kNames[i],
                                   .size = size,
                                   .align = std::has_single_bit(size) ? std::min(size, kPageSize) : 8,
                                   .flags = kmalloc_flags});
    if (!made) {
      undo_init(cpu);
      return std::unexpected(made.error());
    }
    (*made)->kmalloc_ = true;
    kmalloc_[i] = *made;
  }
  return {};
}

void SlabAllocatorBase::undo_init(unsigned cpu) {
  for (ObjectCache*& cache : kmalloc_) {
    if (cache != nullptr) CHECK(destroy(cpu, *std::exchange(cache, nullptr)));
  }
  shrink(cpu, cache_cache_);
  const SpinlockGuard guard(caches_lock_);
  caches_[cache_cache_.id_] = nullptr;
}

Result<ObjectCache*> SlabAllocatorBase::create(unsigned cpu, const CacheConfig& config) {
  void* memory = cache_cache_.alloc_fast(cpu);
  if (memory == nullptr) {
    const auto allocated = alloc_slow(cpu, cache_cache_, {});
    if (!allocated) return std::unexpected(allocated.error());
    memory = *allocated;
  }
  auto* cache = std::construct_at(static_cast<ObjectCache*>(memory));
  Result<> made = lay_out(*cache, config);
  if (made) {
    if (const auto id = register_cache(*cache); !id) made = std::unexpected(id.error());
  }
  if (made) return cache;
  std::destroy_at(cache);
  if (!cache_cache_.free_fast(cpu, memory)) CHECK(free_slow(cpu, cache_cache_, memory));
  return std::unexpected(made.error());
}

// Reclaim on another CPU may be going over the caches, and its slabs of this one: not any more once it is off the list.
Result<> SlabAllocatorBase::destroy(unsigned cpu, ObjectCache& cache) {
  {
    const SpinlockGuard guard(caches_lock_);
    flush_all(cpu, cache);
    if (name_live_objects(cache)) return std::unexpected(Error::kBusy);
    caches_[cache.id_] = nullptr;
  }
  shrink(cpu, cache);
  std::destroy_at(&cache);
  if (!cache_cache_.free_fast(cpu, &cache)) CHECK(free_slow(cpu, cache_cache_, &cache));
  return {};
}

std::uint32_t SlabAllocatorBase::shrink(unsigned cpu, ObjectCache& cache) {
  flush(cpu, cache, cpu);
  std::uint32_t pages = 0;
  for (ObjectCache::NodeSlabs& node : cache.nodes_) {
    FrameList empty;
    {
      const SpinlockGuard guard(node.lock);
      for (FrameIndex slab = node.partial.head(); slab != kNoFrame;) {
        const FrameIndex next = frames()[slab].next;
        if (slab_at(slab).in_use == 0) {
          node.partial.remove(frames(), slab);
          --node.count;
          empty.push_back(frames(), slab);
        }
        slab = next;
      }
    }
    while (!empty.empty()) {
      discard_slab(cpu, cache, empty.pop_front(frames()));
      pages += 1U << cache.order_;
    }
  }
  return pages;
}

std::uint32_t SlabAllocatorBase::shrink_all(unsigned cpu) {
  std::uint32_t pages = 0;
  for (unsigned id = 0; id < kMaxCaches; ++id) {
    const SpinlockGuard guard(caches_lock_);  // which keeps the cache from being destroyed
    if (caches_[id] != nullptr) pages += shrink(cpu, *caches_[id]);
  }
  return pages;
}

std::uint32_t SlabAllocatorBase::spare_pages(unsigned cpu) const {
  std::uint32_t pages = 0;
  for (unsigned id = 0; id < kMaxCaches; ++id) {
    const SpinlockGuard guard(caches_lock_);
    if (caches_[id] == nullptr) continue;
    ObjectCache& cache = *caches_[id];
    const ObjectCache::CpuSlab& mine = cache.cpus_[cpu];
    std::uint32_t slabs = mine.partial_count + (mine.slab != kNoFrame ? 1 : 0);
    for (ObjectCache::NodeSlabs& node : cache.nodes_) {
      const SpinlockGuard node_guard(node.lock);
      for (FrameIndex slab = node.partial.head(); slab != kNoFrame; slab = frames()[slab].next) {
        if (slab_at(slab).in_use == 0) ++slabs;
      }
    }
    pages += slabs << cache.order_;
  }
  return pages;
}

void SlabAllocatorBase::set_fault_injector(unsigned cpu, FaultInjector* fault) {
  fault_ = fault;
  for (unsigned id = 0; id < kMaxCaches; ++id) {
    ObjectCache* cache = nullptr;
    {
      const SpinlockGuard guard(caches_lock_);
      cache = caches_[id];
    }
    if (cache != nullptr) flush_all(cpu, *cache);
  }
}

// ---- kmalloc ----

Result<void*> SlabAllocatorBase::kmalloc_large(unsigned cpu, std::size_t size, AllocFlags flags) {
  if (size == 0 || size > kPageSize << kMaxOrder) return std::unexpected(Error::kInvalid);
  const auto order = static_cast<unsigned>(std::bit_width((size - 1) >> kPageShift));
  // What has no address is no use here.
  const auto block = pages_.get(cpu, order, flags.without(kHighmem | kMovable));
  if (!block) return std::unexpected(block.error());
  frames()[pages_.frame_of(*block)].set_word(
      {.state = FrameState::kSlab, .order = order, .owner = kWholeBlock, .references = 1});
  return *block;
}

Result<> SlabAllocatorBase::kfree_from(unsigned cpu, FrameIndex frame, void* pointer, const void* caller) {
  const FrameIndex block = frame == kNoFrame ? kNoFrame : frames().head_of(frame);
  FrameWord word = block == kNoFrame ? FrameWord{} : frames()[block].word();
  const bool is_ours = word.state == FrameState::kSlab;
  if (ObjectCache* cache = is_ours ? cache_at(word.owner) : nullptr; cache != nullptr && cache->kmalloc_) {
    if (cache->free_fast(cpu, pointer)) return {};
    return free_into(cpu, *cache, block, static_cast<std::byte*>(pointer), caller);
  }
  if (!is_ours || word.owner != kWholeBlock || pages_.address_of(block) != pointer) {
    bad_objects_.fetch_add(1, std::memory_order_relaxed);
    if (log_ != nullptr) log_->print("slab: kfree of {}, which kmalloc did not return", pointer);
    return std::unexpected(Error::kCorrupt);
  }
  word.state = FrameState::kHyp;
  word.owner = kHypervisor;
  frames()[block].set_word(word);
  pages_.put(cpu, static_cast<std::byte*>(pointer), word.order);
  return {};
}

std::size_t SlabAllocatorBase::usable_size(const void* pointer) const {
  const FrameIndex block = slab_of(pointer);
  if (block == kNoFrame) return 0;
  const FrameWord word = frames()[block].word();
  if (word.state != FrameState::kSlab) return 0;
  std::byte* address = pages_.address_of(block);
  if (word.owner == kWholeBlock) return address == pointer ? kPageSize << word.order : 0;
  const ObjectCache* cache = cache_at(word.owner);
  if (cache == nullptr || !cache->kmalloc_) return 0;
  const unsigned number = number_of(*cache, address, static_cast<const std::byte*>(pointer));
  const bool in_use = number != Slab::kNone && relaxed_load(links_of(*cache, block)[number]) == ObjectCache::kInUse;
  return in_use ? cache->size() : 0;
}

}  // namespace cadastre
