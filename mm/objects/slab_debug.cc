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

// Marks an object as free or in use.
void SlabAllocatorBase::prepare_object(const ObjectCache& cache, std::byte* object, bool in_use) const {
  const std::size_t size = cache.config_.size;
  if (cache.config_.flags.has(kRedZone)) {
    const std::byte red = in_use ? kRedInUse : kRedFree;
    std::fill_n(object - cache.left_, cache.left_, red);
    std::fill(object + size, object + cache.free_offset_, red);
  }
  if (!in_use && cache.config_.flags.has(kPoisonObjects) && cache.config_.constructor == nullptr) {
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
    if (!is_all(object + size, cache.free_offset_ - size, red)) {
      report(cache, "red zone after the object overwritten", object);
      return false;
    }
  }
  if (!in_use && cache.config_.flags.has(kPoisonObjects) && cache.config_.constructor == nullptr &&
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
}

// ---- Checked caches ----

Result<void*> SlabAllocatorBase::alloc_checked(unsigned cpu, ObjectCache& cache, AllocFlags flags) {
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
      object = object_at(cache, pages_.address_of(slab), now.free);
      const std::byte* next = cache.next_free(object);
      Slab after{.free = Slab::kNone, .in_use = now.in_use + 1, .frozen = false};
      if (next != nullptr) after.free = number_of(cache, pages_.address_of(slab), next);
      frames()[slab].set_value(after.packed());
      if (next != nullptr) {
        node.partial.push_front(frames(), slab);
        ++node.count;
      }
    }
    // A broken one stays out of use, and the next is tried.
    if (!check_object(cache, object, false)) continue;
    prepare_object(cache, object, true);
    if (flags.has(kZero)) std::fill_n(object, cache.config_.size, std::byte{0});
    return object;
  }
}

void SlabAllocatorBase::free_checked(unsigned cpu, ObjectCache& cache, FrameIndex slab, std::byte* object) {
  prepare_object(cache, object, false);
  bool discard = false;
  ObjectCache::NodeSlabs& node = node_of(cache, slab);
  {
    const SpinlockGuard guard(node.lock);
    std::byte* address = pages_.address_of(slab);
    const Slab now = slab_at(slab);
    const bool was_full = now.free == Slab::kNone;
    cache.set_next_free(object, was_full ? nullptr : object_at(cache, address, now.free));
    // Frozen is a slab that alloc_checked has in hand: it looks again under the lock.
    const Slab after{.free = number_of(cache, address, object), .in_use = now.in_use - 1, .frozen = now.frozen};
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

// Calls `visit(object)` for each object on the slab's own free list; false when the list leads astray.
template <class Visit>
bool SlabAllocatorBase::for_each_free(const ObjectCache& cache, FrameIndex slab, Visit visit) const {
  std::byte* address = pages_.address_of(slab);
  const Slab now = slab_at(slab);
  if (now.free == Slab::kNone) return true;
  const std::byte* object = object_at(cache, address, now.free);
  for (unsigned count = 0; object != nullptr; ++count) {
    if (count == cache.objects_ || number_of(cache, address, object) == Slab::kNone) return false;
    visit(object);
    object = cache.next_free(object);
  }
  return true;
}

bool SlabAllocatorBase::is_on_free_list(ObjectCache& cache, FrameIndex slab, const std::byte* object) const {
  const SpinlockGuard guard(node_of(cache, slab).lock);
  bool found = false;
  const bool sound = for_each_free(cache, slab, [&](const std::byte* free) { found = found || free == object; });
  return found || !sound;
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

// For a cache without objects at hand of any CPU: names the first that live. Each object that is on no free list does.
bool SlabAllocatorBase::name_live_objects(ObjectCache& cache) {
  std::uint32_t live = 0;
  for_each_slab(cache, [&](FrameIndex slab) { live += slab_at(slab).in_use; });
  if (live == 0) return false;
  if (log_ == nullptr) return true;
  log_->print("slab: {}: not destroyed, {} objects live", cache.name(), live);
  unsigned named = 0;
  for_each_slab(cache, [&](FrameIndex slab) {
    for (unsigned i = 0; i < cache.objects_ && named < kMaxNamed && slab_at(slab).in_use != 0; ++i) {
      const std::byte* object = object_at(cache, pages_.address_of(slab), i);
      if (is_on_free_list(cache, slab, object)) continue;
      log_->print("slab:   object at {}", static_cast<const void*>(object));
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
      std::uint32_t free = 0;
      const bool sound = for_each_free(*cache, slab, [&](const std::byte*) { ++free; });
      if (!sound || slab_at(slab).in_use + free != cache->objects_) result = std::unexpected(Error::kCorrupt);
    });
    if (slabs != cache->slabs_) result = std::unexpected(Error::kCorrupt);
    if (!result) {
      if (log_ != nullptr) log_->print("slab: {}: counts and free lists disagree", cache->name());
      return result;
    }
  }
  return {};
}

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
  for (const std::byte* object = cache.cpus_[cpu].free; object != nullptr; object = cache.next_free(object)) {
    --info.active;
  }
  return info;
}

void SlabAllocatorBase::print_slabinfo(unsigned cpu, Log& log) const {
  log.print("# {:-16} {:8} {:8} {:8} {:8} {:8} {:8}", "name", "active", "objects", "size", "perslab", "pages", "slabs");
  for (unsigned id = 0; id < kMaxCaches; ++id) {
    const ObjectCache* cache = cache_at(id);
    if (cache == nullptr) continue;
    const CacheInfo i = info(cpu, *cache);
    log.print("{:-18} {:8} {:8} {:8} {:8} {:8} {:8}", i.name, i.active, i.objects, i.stride, i.objects_per_slab,
              1U << i.order, i.slabs);
  }
}

}  // namespace cadastre
