// A CMA area: memory that a device can have in one piece, and that guests use until it asks.
//
//   area    [ pageblock: CMA ][ pageblock: CMA ] ... free pages serve movable requests (state kCmaLent)
//   bitmap  1 1 1 0 0 0 0 0 1 1 0 0 ...             one bit for 2^order_per_bit pages that the area has allocated
//
// The place comes from memblock: reserve a range of whole pageblocks as MemblockFlags::kPool before
// PageAllocatorBase::release, then `init`. The bitmap's memory is the caller's. To take pages back from guests the allocator
// needs its migrator (PageAllocatorBase::set_migrator). One `alloc` or `release` at a time, others wait for it, so none fails
// while there is room, and what two release at once is released once. Lock order: the bitmap's lock is held alone.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include "mm/frames/page_allocator.hh"

namespace cadastre {

struct CmaStatistics {
  std::uint32_t pages = 0;
  std::uint32_t allocated = 0;  // by the area's users
  std::uint32_t lent = 0;       // to guests
  std::uint32_t largest = 0;    // the longest run of pages that the area has not allocated
  std::uint32_t successes = 0;  // of `alloc`
  std::uint32_t failures = 0;
};

class CmaArea {
 public:
  constexpr CmaArea() = default;
  CmaArea(const CmaArea&) = delete;
  CmaArea& operator=(const CmaArea&) = delete;

  [[nodiscard]] static constexpr std::size_t bitmap_words(std::uint32_t pages, unsigned order_per_bit) {
    return ((pages >> order_per_bit) + 31) / 32;
  }
  // Makes [base, base + pages), set aside for it until now, a CMA area. kInvalid unless that is whole pageblocks, in one
  // zone, all of it reserved as a pool, with a bitmap that is large enough and bits that are no more than a pageblock.
  [[nodiscard]] Result<> init(std::string_view name, PageAllocatorBase& allocator, Pfn base, std::uint32_t pages,
                              unsigned order_per_bit, std::span<std::uint32_t> bitmap);

  // `count` pages in one piece, aligned to 2^align_order pages, in state kDmaPinned: the caller's until `release`.
  // Their contents are undefined. kNoMemory when no place is free or can be freed, kInvalid for a count of 0 or above
  // the area's pages, and for an align_order above kMaxOrder.
  [[nodiscard]] Result<Pfn> alloc(unsigned cpu, std::uint32_t count, unsigned align_order);
  // All or some of what `alloc` returned, in units of 2^order_per_bit pages. kInvalid, reported, and nothing
  // changes, for what is not allocated.
  [[nodiscard]] Result<> release(unsigned cpu, Pfn first, std::uint32_t count);

  [[nodiscard]] std::string_view name() const { return name_; }
  [[nodiscard]] Pfn base() const { return base_; }
  [[nodiscard]] std::uint32_t pages() const { return pages_; }
  [[nodiscard]] bool contains(Pfn page) const { return page >= base_ && page - base_ < pages_; }
  [[nodiscard]] CmaStatistics statistics() const;

 private:
  class Turn;

  [[nodiscard]] Result<Pfn> search(unsigned cpu, std::uint32_t want, unsigned align_order, bool& passing);
  [[nodiscard]] std::uint32_t bits() const { return pages_ >> order_per_bit_; }
  [[nodiscard]] std::uint32_t bits_for(std::uint32_t count) const {
    return (count + (1U << order_per_bit_) - 1) >> order_per_bit_;
  }
  [[nodiscard]] bool test(std::uint32_t bit) const REQUIRES(lock_) { return (bitmap_[bit / 32] >> bit % 32 & 1U) != 0; }
  void set(std::uint32_t first, std::uint32_t count, bool value) REQUIRES(lock_);
  // The first run of `count` clear bits from `from` on whose page is aligned; bits() when there is none.
  [[nodiscard]] std::uint32_t find(std::uint32_t from, std::uint32_t count, unsigned align_order) const REQUIRES(lock_);

  std::string_view name_;
  PageAllocatorBase* allocator_ = nullptr;
  Pfn base_;
  std::uint32_t pages_ = 0;
  unsigned order_per_bit_ = 0;
  std::atomic<bool> searching_ = false;
  mutable Spinlock lock_;
  std::span<std::uint32_t> bitmap_ GUARDED_BY(lock_);
  std::uint32_t successes_ GUARDED_BY(lock_) = 0;
  std::uint32_t failures_ GUARDED_BY(lock_) = 0;
};

}  // namespace cadastre
