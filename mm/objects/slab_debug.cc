// What finds bugs in the users of objects: red zones, poison, checked frees, the names of what lives; and slabinfo.
#include <algorithm>

#include "mm/objects/slab.hh"

namespace cadastre {
namespace {

constexpr std::byte kFreePoison{0x6b};
constexpr std::byte kFreePoisonEnd{0xa5};
constexpr std::byte kRedInUse{0xcc};
constexpr std::byte kRedFree{0xbb};
constexpr unsigned kMaxNamed = 8;

bool is_all(const std::byte* first, std::size_t size, std::byte value) {
  return std::all_of(first, first + size, [&](std::byte byte) { return byte == value; });
}

}  // namespace

SlabAllocatorBase::ObjectHistory* SlabAllocatorBase::history_of(const ObjectCache& cache, std::byte* object) {
  if (!cache.config_.flags.has(kObjectHistory)) return nullptr;
  return reinterpret_cast<ObjectHistory*>(object + cache.right_);
}

// Marks an object as free or in use.
void SlabAllocatorBase::prepare_object(const ObjectCache& cache, std::byte* object, bool in_use) const {
  const std::size_t size = cache.config_.size;
  if (cache.config_.flags.has(kRedZone)) {
    const std::byte red = in_use ? kRedInUse : kRedFree;
    std::fill_n(object - cache.left_, cache.left_, red);
    std::fill(object + size, object + cache.right_, red);
  }
  if (!in_use && cache.config_.flags.has(kPoisonObjects) && !cache.has_constructor()) {
    std::fill_n(object, size - 1, kFreePoison);
    object[size - 1] = kFreePoisonEnd;
  }
}

bool SlabAllocatorBase::check_object(const ObjectCache& cache, const std::byte* object, bool in_use) {
  const std::size_t size = cache.config_.size;
  if (cache.config_.flags.has(kRedZone)) {
    const std::byte red = in_use ? kRedInUse : kRedFree;
    if (!is_all(object - cache.left_, cache.left_, red)) {
      report(cache, "red zone before the object overwritten", object);
      return false;
    }
    if (!is_all(object + size, cache.right_ - size, red)) {
      report(cache, "red zone after the object overwritten", object);
      return false;
    }
  }
  if (!in_use && cache.config_.flags.has(kPoisonObjects) && !cache.has_constructor() &&
      (!is_all(object, size - 1, kFreePoison) || object[size - 1] != kFreePoisonEnd)) {
    report(cache, "object written to after it was freed", object);
    return false;
  }
  return true;
}

void SlabAllocatorBase::report(const ObjectCache& cache, std::string_view what, const void* object) {
  bad_objects_.fetch_add(1, std::memory_order_relaxed);
  if (log_ == nullptr) return;
  log_->print("slab: {}: {}: object at {}", cache.name(), what, object);
  const FrameIndex slab = slab_of(object);
  if (slab == kNoFrame) return;
  const FrameWord word = frames()[slab].word();
  if (word.state != FrameState::kSlab) return log_->print("slab:   in a {} frame", to_string(word.state));
  const ObjectCache* owner = cache_at(word.owner);
  const Slab counts = slab_at(slab);
  log_->print("slab:   in a slab of {} at {} with {} of {} objects in use", owner == nullptr ? "nobody" : owner->name(),
              static_cast<const void*>(pages_.address_of(slab)), counts.in_use,
              owner == nullptr ? 0U : owner->objects_);
  if (owner == nullptr) return;
  std::byte* address = pages_.address_of(slab);
  const auto offset = static_cast<std::uint32_t>(static_cast<const std::byte*>(object) - address);
  const unsigned number = owner->quotient(offset);
  if (number >= owner->objects_) return;
  if (const ObjectHistory* history = history_of(*owner, object_at(*owner, address, number)); history != nullptr) {
    log_->print("slab:   last allocated by {}, last freed by {}", history->allocated_by, history->freed_by);
  }
}

// ---- Checked caches ----

Result<void*> SlabAllocatorBase::alloc_checked(unsigned cpu, ObjectCache& cache, AllocFlags flags, const void* caller) {
  for (;;) {
    FrameIndex slab = any_partial(cpu, cache, true);
    if (slab == kNoFrame) {
      const auto made = make_slab(cpu, cache, flags, false);
      if (!made) return std::unexpected(made.error());
      slab = *made;
    }
    // Off its list the slab is this CPU's, but for others' frees.
    ObjectCache::NodeSlabs& node = node_of(cache, slab);
    std::byte* object = nullptr;
    {
      const SpinlockGuard guard(node.lock);
      const Slab now = slab_at(slab);
      std::uint8_t& link = links_of(cache, slab)[now.free];
      object = object_at(cache, pages_.address_of(slab), now.free);
      const Slab after{.free = relaxed_load(link), .in_use = now.in_use + 1, .frozen = false};
      relaxed_store(link, ObjectCache::kInUse);
      frames()[slab].set_value(after.packed());
      if (after.free != Slab::kNone) {
        node.partial.push_front(frames(), slab);
        ++node.count;
      }
    }
    // A broken one stays out of use, and the next is tried.
    if (!check_object(cache, object, false)) continue;
    prepare_object(cache, object, true);
    if (ObjectHistory* history = history_of(cache, object); history != nullptr) history->allocated_by = caller;
    if (flags.has(kZero)) std::fill_n(object, cache.config_.size, std::byte{0});
    return object;
  }
}

void SlabAllocatorBase::free_checked(unsigned cpu, ObjectCache& cache, FrameIndex slab, unsigned number,
                                     const void* caller) {
  std::byte* object = object_at(cache, pages_.address_of(slab), number);
  prepare_object(cache, object, false);
  if (ObjectHistory* history = history_of(cache, object); history != nullptr) history->freed_by = caller;
  bool discard = false;
  ObjectCache::NodeSlabs& node = node_of(cache, slab);
  {
    const SpinlockGuard guard(node.lock);
    const Slab now = slab_at(slab);
    const bool was_full = now.free == Slab::kNone;
    relaxed_store(links_of(cache, slab)[number], static_cast<std::uint8_t>(now.free));
    // Frozen is a slab that alloc_checked has in hand: it looks again under the lock.
    const Slab after{.free = number, .in_use = now.in_use - 1, .frozen = now.frozen};
    frames()[slab].set_value(after.packed());
    if (now.frozen) return;
    discard = after.in_use == 0 && node.count > 1;
    if (was_full && !discard) {
      node.partial.push_front(frames(), slab);
      ++node.count;
    } else if (!was_full && discard) {
      node.partial.remove(frames(), slab);
      --node.count;
    }
  }
  if (discard) discard_slab(cpu, cache, slab);
}

// ---- Walks ----

// How many objects the slab's own free list has; kCorrupt when the list leads astray.
Result<std::uint32_t> SlabAllocatorBase::count_free(const ObjectCache& cache, FrameIndex slab) const {
  const std::uint8_t* links = links_of(cache, slab);
  std::uint32_t count = 0;
  for (unsigned number = slab_at(slab).free; number != Slab::kNone; number = relaxed_load(links[number])) {
    if (number >= cache.objects_ || count == cache.objects_) return std::unexpected(Error::kCorrupt);
    ++count;
  }
  return count;
}

template <class Visit>
void SlabAllocatorBase::for_each_slab(const ObjectCache& cache, Visit visit) const {
  const FrameTable& table = frames();
  for (FrameIndex i = 0; i < table.count();) {
    const FrameWord word = table[i].word();
    if (word.state == FrameState::kSlab && word.owner == cache.id_) visit(i);
    i += word.state == FrameState::kReserved ? 1 : 1U << word.order;
  }
}

// For a cache without objects at hand of any CPU: names the first that live. Each whose link says so does.
bool SlabAllocatorBase::name_live_objects(ObjectCache& cache) {
  std::uint32_t live = 0;
  for_each_slab(cache, [&](FrameIndex slab) { live += slab_at(slab).in_use; });
  if (live == 0) return false;
  if (log_ == nullptr) return true;
  log_->print("slab: {}: not destroyed, {} objects live", cache.name(), live);
  unsigned named = 0;
  for_each_slab(cache, [&](FrameIndex slab) {
    for (unsigned i = 0; i < cache.objects_ && named < kMaxNamed; ++i) {
      if (relaxed_load(links_of(cache, slab)[i]) < ObjectCache::kHeld) continue;
      std::byte* object = object_at(cache, pages_.address_of(slab), i);
      const ObjectHistory* history = history_of(cache, object);
      log_->print("slab:   object at {}", static_cast<const void*>(object));
      if (history != nullptr) log_->print("slab:     allocated by {}", history->allocated_by);
      ++named;
    }
  });
  return true;
}

Result<> SlabAllocatorBase::audit() const {
  for (unsigned id = 0; id < kMaxCaches; ++id) {
    const ObjectCache* cache = cache_at(id);
    if (cache == nullptr) continue;
    Result<> result;
    std::uint32_t slabs = 0;
    for_each_slab(*cache, [&](FrameIndex slab) {
      ++slabs;
      const Result<std::uint32_t> free = count_free(*cache, slab);
      if (!free || slab_at(slab).in_use + *free != cache->objects_) result = std::unexpected(Error::kCorrupt);
    });
    if (slabs != cache->slabs_) result = std::unexpected(Error::kCorrupt);
    if (!result) {
      if (log_ != nullptr) log_->print("slab: {}: counts and free lists disagree", cache->name());
      return result;
    }
  }
  return {};
}

// The slabs are found through the frames, which other CPUs change meanwhile: one that comes or goes may be missed.
CacheInfo SlabAllocatorBase::info(unsigned cpu, const ObjectCache& cache) const {
  CacheInfo info{.name = cache.name(),
                 .size = cache.size(),
                 .stride = cache.stride_,
                 .order = cache.order_,
                 .objects_per_slab = cache.objects_};
  for_each_slab(cache, [&](FrameIndex slab) {
    ++info.slabs;
    info.objects += cache.objects_;
    info.active += slab_at(slab).in_use;
  });
  const ObjectCache::CpuSlab& mine = cache.cpus_[cpu];
  unsigned at_hand = 0;
  for (unsigned number = mine.free; number < cache.objects_ && at_hand < cache.objects_; ++at_hand) {
    number = relaxed_load(mine.links[number]);
  }
  info.active -= at_hand;
  return info;
}

void SlabAllocatorBase::print_slabinfo(unsigned cpu, Log& log) const {
  log.print("# {:-16} {:8} {:8} {:8} {:8} {:8} {:8}", "name", "active", "objects", "size", "perslab", "pages", "slabs");
  for (unsigned id = 0; id < kMaxCaches; ++id) {
    CacheInfo i;
    {
      const SpinlockGuard guard(caches_lock_);  // which keeps the cache from being destroyed
      if (caches_[id] == nullptr) continue;
      i = info(cpu, *caches_[id]);
    }
    log.print("{:-18} {:8} {:8} {:8} {:8} {:8} {:8}", i.name, i.active, i.objects, i.stride, i.objects_per_slab,
              1U << i.order, i.slabs);
  }
}

}  // namespace cadastre
