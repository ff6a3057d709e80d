#include "mm/frames/cma.hh"

#include <algorithm>

namespace cadastre {

Result<> CmaArea::init(std::string_view name, PageAllocatorBase& allocator, Pfn base, std::uint32_t pages,
                       unsigned order_per_bit, std::span<std::uint32_t> bitmap) {
  if (order_per_bit > kPageblockOrder || pages == 0 || bitmap.size() < bitmap_words(pages, order_per_bit)) {
    return std::unexpected(Error::kInvalid);
  }
  if (const auto adopted = allocator.adopt_cma(base, base + pages); !adopted) return adopted;
  name_ = name;
  allocator_ = &allocator;
  base_ = base;
  pages_ = pages;
  order_per_bit_ = order_per_bit;
  const SpinlockGuard guard(lock_);
  bitmap_ = bitmap.first(bitmap_words(pages, order_per_bit));
  std::ranges::fill(bitmap_, 0U);
  return {};
}

void CmaArea::set(std::uint32_t first, std::uint32_t count, bool value) {
  for (std::uint32_t bit = first; bit < first + count; ++bit) {
    const std::uint32_t mask = 1U << bit % 32;
    bitmap_[bit / 32] = value ? bitmap_[bit / 32] | mask : bitmap_[bit / 32] & ~mask;
  }
}

std::uint32_t CmaArea::find(std::uint32_t from, std::uint32_t count, unsigned align_order) const {
  const auto aligned = [&](std::uint32_t bit) {
    const std::uint32_t alignment = 1U << align_order;
    const std::uint32_t page = base_.value() + (bit << order_per_bit_);
    return ((((page + alignment - 1) & ~(alignment - 1)) - base_.value()) + (1U << order_per_bit_) - 1) >>
           order_per_bit_;
  };
  std::uint32_t at = aligned(from);
  while (at + count <= bits()) {
    std::uint32_t run = 0;
    while (run < count && !test(at + run)) ++run;
    if (run == count) return at;
    at = aligned(at + run + 1);
  }
  return bits();
}

Result<Pfn> CmaArea::alloc(unsigned cpu, std::uint32_t count, unsigned align_order) {
  if (count == 0 || count > pages_ || align_order > kMaxOrder) return std::unexpected(Error::kInvalid);
  const std::uint32_t want = bits_for(count);
  for (std::uint32_t from = 0;;) {
    std::uint32_t bit = 0;
    {
      // The bits are ours before we start to move pages: nobody else tries the same place.
      const SpinlockGuard guard(lock_);
      bit = find(from, want, align_order);
      if (bit == bits()) {
        ++failures_;
        return std::unexpected(Error::kNoMemory);
      }
      set(bit, want, true);
    }
    const Pfn first = base_ + (bit << order_per_bit_);
    const auto taken =
        allocator_->alloc_contig_range(cpu, first, first + (want << order_per_bit_), FrameState::kDmaPinned);
    const SpinlockGuard guard(lock_);
    if (taken) {
      ++successes_;
      return first;
    }
    // Somebody there does not move, just now: the next place.
    set(bit, want, false);
    from = bit + 1;
  }
}

Result<> CmaArea::release(unsigned cpu, Pfn first, std::uint32_t count) {
  const std::uint32_t unit = 1U << order_per_bit_;
  if (!contains(first) || count == 0 || count > pages_ - (first - base_) || (first - base_) % unit != 0) {
    return std::unexpected(Error::kInvalid);
  }
  const std::uint32_t bit = (first - base_) >> order_per_bit_;
  const std::uint32_t want = bits_for(count);
  {
    const SpinlockGuard guard(lock_);
    for (std::uint32_t i = bit; i < bit + want; ++i) {
      if (!test(i)) return std::unexpected(Error::kInvalid);
    }
  }
  // The bits stay set until the pages are free: nobody looks for them before.
  if (const auto freed = allocator_->free_contig_range(cpu, first, first + (want << order_per_bit_)); !freed)
    return freed;
  const SpinlockGuard guard(lock_);
  set(bit, want, false);
  return {};
}

CmaStatistics CmaArea::statistics() const {
  CmaStatistics statistics{.pages = pages_};
  {
    const SpinlockGuard guard(lock_);
    std::uint32_t run = 0;
    for (std::uint32_t bit = 0; bit < bits(); ++bit) {
      if (test(bit)) {
        statistics.allocated += 1U << order_per_bit_;
        run = 0;
      } else {
        run += 1U << order_per_bit_;
        statistics.largest = std::max(statistics.largest, run);
      }
    }
    statistics.successes = successes_;
    statistics.failures = failures_;
  }
  const FrameTable& frames = allocator_->frames();
  const FrameIndex first = frames.index_of(base_);
  for (FrameIndex i = first; i < first + pages_;) {
    const FrameWord word = frames[i].word();
    const std::uint32_t size = word.state == FrameState::kReserved ? 1 : 1U << word.order;
    if (word.state == FrameState::kCmaLent) statistics.lent += size;
    i += size;
  }
  return statistics;
}

}  // namespace cadastre
