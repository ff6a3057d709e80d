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

// One at a time: what another one has isolated, or is moving away just now, may be all that there is room in.
class CmaArea::Turn {
 public:
  explicit Turn(CmaArea& area) : area_(area) {
    while (area_.searching_.exchange(true, std::memory_order_acquire)) area_.allocator_->wait();
  }
  ~Turn() { area_.searching_.store(false, std::memory_order_release); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  CmaArea& area_;
};

Result<Pfn> CmaArea::alloc(unsigned cpu, std::uint32_t count, unsigned align_order) {
  if (count == 0 || count > pages_ || align_order > kMaxOrder) return std::unexpected(Error::kInvalid);
  const Turn turn(*this);
  bool passing = false;
  Result<Pfn> taken = search(cpu, bits_for(count), align_order, passing);
  if (!taken && passing) {
    // The area's pages are on no CPU's list, but when all have answered, what they were doing with them is done.
    allocator_->drain_all(cpu);
    taken = search(cpu, bits_for(count), align_order, passing);
  }
  const SpinlockGuard guard(lock_);
  ++(taken ? successes_ : failures_);
  return taken;
}

// From the lowest place on. `passing` is set when one is taken only for now.
Result<Pfn> CmaArea::search(unsigned cpu, std::uint32_t want, unsigned align_order, bool& passing) {
  const auto next_place = [&](std::uint32_t from) {
    const SpinlockGuard guard(lock_);
    return find(from, want, align_order);
  };
  for (std::uint32_t bit = next_place(0); bit != bits();) {
    const Pfn first = base_ + (bit << order_per_bit_);
    const auto taken =
        allocator_->take_contig_range(cpu, first, first + (want << order_per_bit_), FrameState::kDmaPinned);
    if (taken) {
      const SpinlockGuard guard(lock_);
      set(bit, want, true);
      return first;
    }
    passing = passing || taken.error().passing;
    // Each place before the end of what is in the way has it in the way.
    bit = next_place(std::max(bit + 1, bits_for(taken.error().past - base_)));
  }
  return std::unexpected(Error::kNoMemory);
}

Result<> CmaArea::release(unsigned cpu, Pfn first, std::uint32_t count) {
  const std::uint32_t unit = 1U << order_per_bit_;
  const auto refuse = [&]() -> Result<> {
    allocator_->report("CMA: release of what is not allocated", first);
    return std::unexpected(Error::kInvalid);
  };
  if (!contains(first) || count == 0 || count > pages_ - (first - base_) || (first - base_) % unit != 0)
    return refuse();
  const std::uint32_t bit = (first - base_) >> order_per_bit_;
  const std::uint32_t want = bits_for(count);
  // Of several who release the same, one does, and the others find it free.
  const Turn turn(*this);
  const auto is_allocated = [&] {
    const SpinlockGuard guard(lock_);
    for (std::uint32_t i = bit; i < bit + want; ++i) {
      if (!test(i)) return false;
    }
    return true;
  };
  if (!is_allocated()) return refuse();
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
