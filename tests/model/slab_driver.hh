// Random users of a slab allocator on several CPUs. Each object is filled with a pattern of its own, which it must still
// hold when it is given back; none may overlap another; wrong frees must be found by the caches that look for them.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "mm/objects/slab.hh"
#include "tests/model/choices.hh"
#include "tests/model/fake_machine.hh"

namespace cadastre::model {

class SlabDriver {
 public:
  explicit SlabDriver(Decide decide) : decide_(std::move(decide)), machine_({{.base = kBase, .size = kRam}}) {
    require(memblock_.add(PhysAddr(kBase), kRam).has_value() && pages_.init(memblock_), "init failed");
    pages_.release(memblock_);
    kmalloc_flags_ = choose_flags();
    require(slabs_.init(&log_, kmalloc_flags_).has_value(), "init failed");
    if (pick(8) == 0) {
      has_faults_ = true;
      pages_.set_fault_injector(&fault_);
      slabs_.set_fault_injector(0, &fault_);
    }
    shrink_everywhere();
    hyp_at_first_ = counts().hyp;
  }
  ~SlabDriver() { FakeMachine::current_cpu = 0; }
  SlabDriver(const SlabDriver&) = delete;
  SlabDriver& operator=(const SlabDriver&) = delete;

  void step() {
    FakeMachine::current_cpu = cpu_ = static_cast<unsigned>(pick(kCpus));
    if (has_faults_ && pick(8) == 0) fault_.arm(static_cast<std::uint32_t>(pick(4)));
    perform();
    fault_.disarm();
    if (++steps_ % 256 == 0) check();
  }

  // Everything comes back, and nothing is lost.
  void finish() {
    while (!objects_.empty()) free(objects_.begin());
    while (!caches_.empty()) destroy(caches_.size() - 1);
    shrink_everywhere();
    check();
    require(counts().hyp == hyp_at_first_, "pages were lost");
  }

 private:
  static constexpr std::uint64_t kBase = std::uint64_t{1} << 30U;
  static constexpr std::uint64_t kRam = std::uint64_t{16} << 20U;
  static constexpr unsigned kCpus = 3;
  static constexpr std::size_t kMostCaches = 6;
  static constexpr int kConstructed = 0x42;

  struct Cache {
    ObjectCache* cache;
    std::size_t size;
    std::size_t align;
    SlabFlags flags;
    bool is_constructed;
    std::uint32_t live = 0;
  };
  struct Object {
    std::size_t size;
    ObjectCache* cache;  // nullptr: from kmalloc
    int value;
  };
  using Objects = std::map<std::byte*, Object>;
  class Lines final : public Log {
   public:
    void write_line(std::string_view line) override { count += line.empty() ? 0 : 1; }
    unsigned count = 0;
  };

  std::size_t pick(std::size_t below) { return static_cast<std::size_t>(decide_(below)); }
  SlabFlags choose_flags() {
    static constexpr std::array kFlags = {
        SlabFlags{},    SlabFlags{},    SlabFlags{},   kRedZone | kPoisonObjects | kObjectHistory,
        kObjectHistory, kPoisonObjects, kCacheAligned, kRedZone | kObjectHistory};
    return kFlags[pick(kFlags.size())];
  }
  std::size_t choose_size() {
    switch (pick(32)) {
      case 0:
        return 1 + pick(100'000);
      case 1:
      case 2:
        return 1 + pick(9000);
      default:
        return 1 + pick(300);
    }
  }
  Cache& of(const ObjectCache* cache) {
    return *std::ranges::find_if(caches_, [&](const Cache& one) { return one.cache == cache; });
  }

  void perform() {
    const std::size_t choice = pick(100);
    if (choice < (steps_ / 2048 % 2 == 0 ? 50U : 35U)) {
      pick(2) == 0 || caches_.empty() ? kmalloc() : alloc();
    } else if (choice < 80) {
      if (!objects_.empty()) free(choose());
    } else if (choice < 85) {
      krealloc();
    } else if (choice < 88) {
      bulk();
    } else if (choice < 94) {
      free_wrongly();
    } else if (choice < 96) {
      manage();
    } else if (choice < 98) {
      slabs_.shrink_all();
    } else {
      report();
    }
  }

  // ---- Objects

  static bool is_all(const std::byte* at, std::size_t size, int value) {
    return size == 0 || (std::to_integer<int>(at[0]) == value && std::memcmp(at, at + 1, size - 1) == 0);
  }
  Objects::iterator choose() {
    auto one = objects_.lower_bound(machine_.bytes_at(PhysAddr(kBase)) + pick(kRam));
    return one == objects_.end() ? objects_.begin() : one;
  }
  void hold(void* memory, std::size_t size, std::size_t align, ObjectCache* cache) {
    auto* at = static_cast<std::byte*>(memory);
    require(reinterpret_cast<std::uintptr_t>(at) % align == 0, "an object is not aligned");
    const auto next = objects_.lower_bound(at);
    require(next == objects_.end() || at + size <= next->first, "an object overlaps the next");
    require(next == objects_.begin() || std::prev(next)->first + std::prev(next)->second.size <= at,
            "an object overlaps the one before");
    value_ = (value_ + 1) & 0xff;
    std::memset(at, value_, size);
    objects_[at] = {.size = size, .cache = cache, .value = value_};
    if (cache != nullptr) ++of(cache).live;
  }
  // A small object fails only when memory is short.
  void check_refusal(Error error, std::size_t size) {
    require(error == Error::kNoMemory, "the wrong error");
    require(has_faults_ || size > SlabAllocatorBase::kMaxKmalloc || pages_.free_frames() < kRam / kPageSize / 4,
            "a request failed while there is memory");
  }
  void kmalloc() {
    const std::size_t size = choose_size();
    const bool zero = pick(4) == 0;
    const auto memory = slabs_.kmalloc(size, zero ? kZero | kNoWarn : kNoWarn);
    if (!memory) return check_refusal(memory.error(), size);
    require(slabs_.ksize(*memory) >= size, "too little room");
    require(!zero || is_all(static_cast<std::byte*>(*memory), size, 0), "it is not zeroed");
    const bool power = (size & (size - 1)) == 0 && size >= 8 && size <= kPageSize;
    hold(*memory, size, power ? size : 8, nullptr);
  }
  void alloc() {
    const Cache& cache = caches_[pick(caches_.size())];
    const bool zero = !cache.is_constructed && pick(4) == 0;
    const auto memory = slabs_.alloc(*cache.cache, zero ? kZero | kNoWarn : kNoWarn);
    if (!memory) return check_refusal(memory.error(), cache.size);
    take_over(cache, *memory, zero);
  }
  void take_over(const Cache& cache, void* memory, bool zero) {
    require(!zero || is_all(static_cast<std::byte*>(memory), cache.size, 0), "it is not zeroed");
    require(!cache.is_constructed || is_all(static_cast<std::byte*>(memory), cache.size, kConstructed),
            "it is not as constructed");
    hold(memory, cache.size, cache.flags.has(kCacheAligned) ? std::max<std::size_t>(cache.align, 64) : cache.align,
         cache.cache);
  }
  // Forgets an object whose contents are as they were left.
  Object let_go(Objects::iterator one) {
    const Object object = one->second;
    require(is_all(one->first, object.size, object.value), "somebody wrote to an object that is in use");
    if (object.cache != nullptr) {
      Cache& cache = of(object.cache);
      --cache.live;
      if (cache.is_constructed) std::memset(one->first, kConstructed, object.size);
    }
    objects_.erase(one);
    return object;
  }
  void free(Objects::iterator one) {
    std::byte* at = one->first;
    const Object object = let_go(one);
    object.cache == nullptr ? slabs_.kfree(at) : slabs_.free(*object.cache, at);
  }
  void krealloc() {
    if (objects_.empty()) return;
    const auto one = choose();
    if (one->second.cache != nullptr) return;
    const auto [at, object] = *one;
    const std::size_t size = pick(8) == 0 ? 0 : choose_size();
    const auto moved = slabs_.krealloc(at, size, kNoWarn);
    if (!moved) {
      require((moved.error() == Error::kInvalid) == (size == 0), "the wrong error");
      return;
    }
    require(size != 0, "nothing is no size");
    require(is_all(static_cast<std::byte*>(*moved), std::min(size, object.size), object.value), "contents were lost");
    objects_.erase(one);
    hold(*moved, size, 8, nullptr);
  }
  // All of them or none.
  void bulk() {
    if (caches_.empty()) return;
    const Cache& cache = caches_[pick(caches_.size())];
    std::vector<void*> memory(pick(64));
    const auto done = slabs_.alloc_bulk(*cache.cache, memory, kNoWarn);
    if (!done) return check_refusal(done.error(), cache.size);
    for (void* object : memory) take_over(cache, object, false);
    if (pick(2) == 0) return;
    for (void* object : memory) let_go(objects_.find(static_cast<std::byte*>(object)));
    slabs_.free_bulk(*cache.cache, memory);
  }

  // ---- Mistakes

  void free_wrongly() {
    if (objects_.empty()) return;
    const auto one = choose();
    const auto [at, object] = *one;
    const SlabFlags flags = object.cache == nullptr ? kmalloc_flags_ : of(object.cache).flags;
    const bool is_small = object.cache != nullptr || slabs_.ksize(at) <= SlabAllocatorBase::kMaxKmalloc;
    switch (pick(4)) {
      case 0:
        if (!is_small) {
          refused(slabs_.try_kfree(at + kPageSize), "a pointer into a large object was freed");
        } else if (object.size > 1) {
          refused(try_free(at + 1, object), "a pointer into an object was freed");
        }
        break;
      case 1:
        for (const Cache& other : caches_) {
          if (other.cache != object.cache) {
            return refused(slabs_.try_free(*other.cache, at), "a cache took another's object");
          }
        }
        break;
      case 2:
        if (is_small && flags.has(kRedZone)) overrun(at, object);
        break;
      default:
        if (!is_small) return;
        let_go(one);
        require(try_free(at, object).has_value(), "a free was refused");
        refused(try_free(at, object), "an object was freed twice");
        break;
    }
  }
  Result<> try_free(std::byte* at, const Object& object) {
    return object.cache == nullptr ? slabs_.try_kfree(at) : slabs_.try_free(*object.cache, at);
  }
  void refused(const Result<>& result, const char* what) {
    require(!result && result.error() == Error::kCorrupt, what);
    require(slabs_.bad_objects() > bad_, "a wrong free was not counted");
    bad_ = slabs_.bad_objects();
  }
  void overrun(std::byte* at, const Object& object) {
    // What a class has more than was asked for is the user's as well.
    const std::size_t size = object.cache == nullptr ? slabs_.ksize(at) : object.size;
    std::byte& beyond = pick(2) == 0 ? at[size] : at[-1];
    const std::byte before = beyond;
    beyond = ~before;
    refused(try_free(at, object), "an overrun was not found");
    beyond = before;
  }

  // ---- Caches

  void manage() {
    if (caches_.size() < kMostCaches && (caches_.empty() || pick(2) == 0)) return create();
    if (caches_.empty()) return;
    const std::size_t which = pick(caches_.size());
    if (pick(4) == 0) {
      slabs_.shrink(*caches_[which].cache);
    } else {
      destroy(which);
    }
  }
  void create() {
    constexpr auto construct = [](void* object) { std::memset(object, kConstructed, kConstructedSize); };
    Cache cache{.cache = nullptr,
                .size = 1 + pick(pick(8) == 0 ? 20'000 : 400),
                .align = std::size_t{8} << pick(5),
                .flags = choose_flags(),
                .is_constructed = pick(4) == 0};
    if (cache.is_constructed) cache.size = kConstructedSize;
    const auto made = slabs_.create({.name = "random",
                                     .size = cache.size,
                                     .align = cache.align,
                                     .flags = cache.flags,
                                     .constructor = cache.is_constructed ? +construct : nullptr});
    if (!made) return check_refusal(made.error(), 0);
    cache.cache = *made;
    caches_.push_back(cache);
    const auto refused = slabs_.create({.name = "wrong", .size = pick(2) * 40'000});
    require(!refused && (refused.error() == Error::kInvalid || has_faults_), "a cache of no sensible size");
  }
  void destroy(std::size_t which) {
    const Cache cache = caches_[which];
    const unsigned lines = log_.count;
    const Result<> done = slabs_.destroy(*cache.cache);
    require(done.has_value() == (cache.live == 0), "a cache was destroyed under its objects, or was not without");
    if (!done) {
      require(done.error() == Error::kBusy && log_.count > lines + 1, "live objects were not named");
      return;
    }
    caches_.erase(caches_.begin() + static_cast<std::ptrdiff_t>(which));
  }

  // ---- What must hold

  void report() {
    slabs_.print_slabinfo(cpu_, log_);
    for (const Cache& cache : caches_) {
      const CacheInfo info = slabs_.info(cpu_, *cache.cache);
      require(info.active >= cache.live && info.objects >= info.active, "wrong counts of objects");
      require(info.objects == info.slabs * info.objects_per_slab && info.size == cache.size, "wrong counts of slabs");
    }
  }
  void shrink_everywhere() {
    for (cpu_ = 0; cpu_ < kCpus; ++cpu_) {
      FakeMachine::current_cpu = cpu_;
      slabs_.shrink_all();
      pages_.drain(cpu_);
    }
    FakeMachine::current_cpu = cpu_ = 0;
    slabs_.shrink_all();
  }
  FrameCounts counts() const {
    const auto audit = pages_.audit();
    if (!audit) throw Violation{std::string(audit.error().what)};
    return *audit;
  }
  void check() {
    require(slabs_.audit().has_value(), "the slabs' audit");
    static_cast<void>(counts());
    require(slabs_.bad_objects() == bad_, "an object was called bad that is not");
  }

  static constexpr std::size_t kConstructedSize = 72;

  Decide decide_;
  FakeMachine machine_;
  Memblock memblock_;
  PageAllocator<FakeMachine> pages_{machine_};
  SlabAllocator<FakeMachine> slabs_{pages_};
  Lines log_;
  FaultInjector fault_;
  SlabFlags kmalloc_flags_;
  std::vector<Cache> caches_;
  Objects objects_;
  std::uint32_t hyp_at_first_ = 0;
  std::uint32_t bad_ = 0;
  unsigned cpu_ = 0;
  unsigned steps_ = 0;
  int value_ = 0;
  bool has_faults_ = false;
};

}  // namespace cadastre::model
