// Memory that is contiguous in HYP's addresses only, and devices' registers: areas of one region of HYP's space.
//
//   vmalloc  [ page ][ page ][ page ][guard]     single pages of any zone, high memory first
//   ioremap  [ registers           ][guard]      blocks of 2 MiB where size and place allow
//
// An area's frames are found through the tables, so nothing else remembers them. vfree unmaps in steps; each breaks its
// entries, has every CPU forget them with one flush, and only then gives their frames away (mm/translation/page_table.hh); tables
// that become empty go with them.
//
// Usage, with HYP's table and its lock, once slabs are up:
//   Vmalloc vmalloc(table, table_lock, pages, slabs, start, end);   vmalloc.init(&log);
//   Result<void*> buffer = vmalloc.vmalloc(100'000, kZero);   vmalloc.vfree(*buffer);
// Lock order: the table's lock, then what the page allocator takes (for table pages, and when it takes frames back).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mm/base/machine.hh"
#include "mm/base/spinlock.hh"
#include "mm/frames/page_allocator.hh"
#include "mm/objects/slab.hh"
#include "mm/objects/virtual_areas.hh"
#include "mm/translation/hyp_table.hh"
#include "mm/translation/page_table_change.hh"

namespace cadastre {

template <TableEnvironment E, Machine M>
class Vmalloc {
 public:
  // [start, end), page-aligned, is this object's alone. The references outlive it; `lock` guards `table`.
  Vmalloc(HypTable<E>& table, Spinlock& lock, PageAllocator<M>& pages, SlabAllocator<M>& slabs, HypVirtAddr start,
          HypVirtAddr end)
      : table_(table), lock_(lock), pages_(pages), cache_(slabs), areas_(start, end) {}
  Vmalloc(const Vmalloc&) = delete;
  Vmalloc& operator=(const Vmalloc&) = delete;

  // Once, before anything else. Fails as SlabAllocator::create does.
  [[nodiscard]] Result<> init(Log* log = nullptr, SlabFlags flags = kDefaultSlabFlags) {
    log_ = log;
    return cache_.init("vmap_area", flags);
  }
  // kBusy while there are areas.
  [[nodiscard]] Result<> close() { return cache_.close(); }

  // `size` bytes, rounded up to pages, that are the caller's until `vfree`; undefined without kZero. kInvalid: of size
  // 0; kLimit: no room in the region; kNoMemory: pages, tables or the area itself. `flags` are the pages'.
  [[nodiscard]] Result<void*> vmalloc(std::size_t size, AllocFlags flags = {}) {
    const Result<Area*> area = make_area(Kind::kVmalloc, size, kPageSize);
    if (!area) return std::unexpected(area.error());
    if (const Result<> filled = populate(**area, flags.without(kMovable) | kHighmem); !filled) {
      take_apart(**area);
      return std::unexpected(filled.error());
    }
    return pointer_to((*area)->start());
  }
  // nullptr is nothing to free. What is not from vmalloc, or was freed already, is reported and answered with
  // kCorrupt, and changes nothing.
  [[nodiscard]] Result<> vfree(void* pointer) { return leave(pointer, Kind::kVmalloc, 0); }

  // [physical, physical + size), which need not be page-aligned, as device memory until `iounmap`. kInvalid: of size 0,
  // wrapping, or RAM that the page allocator has (which is mapped otherwise already); kLimit, kNoMemory, kOutOfRange.
  [[nodiscard]] Result<void*> ioremap(PhysAddr physical, std::size_t size) {
    const PhysAddr first = physical.aligned_down(kPageSize);
    const PhysAddr past = (physical + size).aligned_up(kPageSize);
    if (size == 0 || past < first || past - first > kLargestSize) return std::unexpected(Error::kInvalid);
    if (is_allocators_ram(first, past)) return std::unexpected(Error::kInvalid);
    const auto bytes = static_cast<std::size_t>(past - first);
    const Result<Area*> area = make_area(Kind::kIoremap, bytes, bytes >= kBlockSize ? kBlockSize : kPageSize);
    if (!area) return std::unexpected(area.error());
    if (const Result<> mapped = map((*area)->start(), first, bytes); !mapped) {
      take_apart(**area);
      return std::unexpected(mapped.error());
    }
    return pointer_to((*area)->start() + static_cast<std::size_t>(physical - first));
  }
  // Any address in the area's first page, as ioremap returned it. Errors as for `vfree`.
  [[nodiscard]] Result<> iounmap(void* pointer) {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    return leave(pointer, Kind::kIoremap, HypVirtAddr(address).offset_in(kPageSize));
  }

  // Wrong pointers that were refused.
  [[nodiscard]] std::uint32_t bad_frees() const { return bad_frees_.load(std::memory_order_relaxed); }
  // A line for each area.
  void print(Log& log) const EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    areas_.for_each([&](const VirtualArea& area) {
      const Kind kind = static_cast<const Area&>(area).kind;
      log.print("vmalloc: [{}-{}] {} KiB {}", area.start(), area.start() + (area.size() - 1), area.size() >> 10,
                to_string(kind));
    });
  }

 private:
  enum class Kind : std::uint8_t { kVmalloc, kIoremap, kLeaving };
  struct Area final : VirtualArea {
    explicit Area(Kind what) : kind(what) {}
    Kind kind;
  };
  static constexpr unsigned kLeavesPerStep = 512;  // unmapped in one go with the lock held
  static constexpr std::size_t kLargestSize = std::size_t{1} << 31;

  [[nodiscard]] static constexpr std::string_view to_string(Kind kind) {
    if (kind == Kind::kLeaving) return "leaving";
    return kind == Kind::kVmalloc ? "vmalloc" : "ioremap";
  }
  [[nodiscard]] static void* pointer_to(HypVirtAddr address) { return reinterpret_cast<void*>(address.value()); }

  [[nodiscard]] bool is_allocators_ram(PhysAddr first, PhysAddr past) {
    FrameTable& frames = pages_.frames();
    for (Pfn page = frame_of(first); page < frame_of(past); page += 1) {
      const FrameIndex frame = frames.index_of(page);
      if (frame != kNoFrame && frames[frames.head_of(frame)].state() != FrameState::kReserved) return true;
    }
    return false;
  }

  [[nodiscard]] Result<Area*> make_area(Kind kind, std::size_t size, std::size_t align) {
    if (size == 0) return std::unexpected(Error::kInvalid);
    if (size > kLargestSize) return std::unexpected(Error::kLimit);
    const Result<Area*> area = cache_.create(kind);
    if (!area) return area;
    const Result<> placed = place(**area, (size + kPageSize - 1) & ~(kPageSize - 1), align);
    if (placed) return area;
    cache_.destroy(*area);
    return std::unexpected(placed.error());
  }
  [[nodiscard]] Result<> place(Area& area, std::size_t size, std::size_t align) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    return areas_.insert(area, size, align);
  }
  // Pages are taken, and cleared, without the lock.
  [[nodiscard]] Result<> populate(const Area& area, AllocFlags flags) {
    for (std::size_t offset = 0; offset < area.size(); offset += kPageSize) {
      const Result<Pfn> page = pages_.alloc(0, flags);
      if (!page) return std::unexpected(page.error());
      if (const Result<> mapped = map_page(area.start() + offset, address_of(*page)); !mapped) {
        pages_.free(*page, 0);
        return mapped;
      }
    }
    return {};
  }
  [[nodiscard]] Result<> map_page(HypVirtAddr address, PhysAddr page) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    return table_.map_leaf(address, page, kLastLevel, HypAttributes::data());
  }
  [[nodiscard]] Result<> map(HypVirtAddr address, PhysAddr physical, std::size_t size) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    return table_.map(address, physical, size, HypAttributes::device());
  }

  // Finds the area of a pointer, and makes it nobody else's to free.
  [[nodiscard]] Area* claim(HypVirtAddr start, Kind kind) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    auto* area = static_cast<Area*>(areas_.starting_at(start));
    if (area == nullptr || area->kind != kind) return nullptr;
    area->kind = Kind::kLeaving;
    return area;
  }
  [[nodiscard]] Result<> leave(void* pointer, Kind kind, std::size_t offset) {
    if (pointer == nullptr) return {};
    Area* area = claim(HypVirtAddr(reinterpret_cast<std::uintptr_t>(pointer) - offset), kind);
    if (area == nullptr) {
      bad_frees_.fetch_add(1, std::memory_order_relaxed);
      if (log_ != nullptr) log_->print("vmalloc: {} is the start of no area of {}", pointer, to_string(kind));
      return std::unexpected(Error::kCorrupt);
    }
    take_apart(*area);
    return {};
  }
  // An area, populated in part or as a whole, that nobody uses any more.
  void take_apart(Area& area) {
    const std::uint64_t end = area.start().value() + area.size();
    for (std::uint64_t at = area.start().value(); at < end;) at += unmap_some(at, end - at);
    {
      const SpinlockGuard guard(lock_);
      areas_.remove(area);
    }
    cache_.destroy(&area);
  }
  [[nodiscard]] std::uint64_t unmap_some(std::uint64_t at, std::uint64_t size) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    const Result<std::uint64_t> done =
        table_.unmap_some(HypVirtAddr(static_cast<std::uintptr_t>(at)), size, kLeavesPerStep,
                          [&](HypVirtAddr, const typename HypTable<E>::Mapping& mapping) {
                            if (mapping.attributes.memory() == HypMemory::kNormal)
                              pages_.free(frame_of(mapping.address), 0);
                          });
    CHECK(done.has_value() && *done != 0);  // an area is whole leaves, and nothing is split
    return *done;
  }

  HypTable<E>& table_ GUARDED_BY(lock_);
  Spinlock& lock_;
  PageAllocator<M>& pages_;
  SlabCache<Area, M> cache_;
  VirtualAreas areas_ GUARDED_BY(lock_);
  Log* log_ = nullptr;
  std::atomic<std::uint32_t> bad_frees_ = 0;
};

}  // namespace cadastre
