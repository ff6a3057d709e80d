#include "mm/translation/vmid.hh"

namespace cadastre {

VmidAllocator::Activation VmidAllocator::activate_slowly(unsigned cpu, Vmid& vmid) {
  const SpinlockGuard guard(lock_);
  std::uint64_t tag = vmid.tag_.load(std::memory_order_relaxed);
  if ((tag & ~kNumberMask) != generation_.load(std::memory_order_relaxed)) {
    tag = renew(tag);
    vmid.tag_.store(tag, std::memory_order_seq_cst);
  }
  active_[cpu].store(tag, std::memory_order_relaxed);
  const bool flush = flush_pending_[cpu];
  flush_pending_[cpu] = false;
  return {static_cast<std::uint8_t>(tag), flush};
}

// A tag of this generation for the guest whose tag was `old`.
std::uint64_t VmidAllocator::renew(std::uint64_t old) {
  const std::uint64_t number = old & kNumberMask;
  // A guest that ran when the generation began keeps its number, on all CPUs that it ran on.
  bool kept = false;
  for (std::uint64_t& tag : kept_) {
    if (old != 0 && tag == old) {
      tag = generation_.load(std::memory_order_relaxed) | number;
      kept = true;
    }
  }
  if (kept) return generation_.load(std::memory_order_relaxed) | number;

  while (next_ < kNumbers && is_used(next_)) ++next_;
  if (next_ == kNumbers) {
    begin_generation();
    // The running guests are at most kMaxCpus, so there is a free number.
    while (is_used(next_)) ++next_;
  }
  return generation_.load(std::memory_order_relaxed) | next_++;
}

void VmidAllocator::begin_generation() {
  generation_.store(generation_.load(std::memory_order_relaxed) + kNumbers, std::memory_order_relaxed);
  used_ = {1};
  next_ = 1;
  for (unsigned cpu = 0; cpu < kMaxCpus; ++cpu) {
    // A CPU that has not entered since the last generation began still runs what it ran then.
    if (const std::uint64_t active = active_[cpu].exchange(0); active != 0) kept_[cpu] = active;
    set_used(static_cast<unsigned>(kept_[cpu] & kNumberMask));
    flush_pending_[cpu] = true;
  }
}

static_assert(kMaxCpus < VmidAllocator::kNumbers - 1);

}  // namespace cadastre
