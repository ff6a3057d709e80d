// VMIDs: 8 bits that tag a guest's translations in the TLB, handed out again by generations.
//
//   generation (56 bits) | number (8 bits)        a guest's tag; number 0 is never handed out
//
// A guest keeps its number until all 255 are used up. Then a new generation begins: every number is free but
// those that run on a CPU at this moment, which their guests keep, and each CPU forgets all guests'
// translations before it next enters one. So a number is never used for two guests while a TLB remembers the
// first.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "mm/base/annotations.hh"
#include "mm/base/machine.hh"
#include "mm/base/spinlock.hh"

namespace cadastre {

// A guest's.
class Vmid {
 public:
  // What VTTBR holds, and what an invalidation of this guest's translations names. 0: it never ran, so no TLB
  // knows it. To be read after the tables are changed and a DSB: a CPU that enters the guest meanwhile
  // publishes the number before it walks.
  [[nodiscard]] std::uint8_t number() const { return static_cast<std::uint8_t>(tag_.load(std::memory_order_seq_cst)); }

 private:
  friend class VmidAllocator;
  std::atomic<std::uint64_t> tag_ = 0;
};

class VmidAllocator {
 public:
  static constexpr unsigned kNumbers = 256;

  VmidAllocator() = default;
  VmidAllocator(const VmidAllocator&) = delete;
  VmidAllocator& operator=(const VmidAllocator&) = delete;

  struct Activation {
    std::uint8_t number;
    // This CPU has to forget the translations of all guests (TLBIALLNSNH, DSB) before it enters.
    bool flush;
  };
  // On every entry of a guest, by CPU `cpu` itself. Takes no lock unless the guest's number is of an old
  // generation or a generation has begun since this CPU's last entry.
  [[nodiscard]] Activation activate(unsigned cpu, Vmid& vmid) {
    const std::uint64_t tag = vmid.tag_.load(std::memory_order_relaxed);
    std::uint64_t active = active_[cpu].load(std::memory_order_relaxed);
    // A new generation takes every CPU's active tag away, by an exchange: whoever comes first wins.
    if (active != 0 && (tag & ~kNumberMask) == generation_.load(std::memory_order_relaxed) &&
        active_[cpu].compare_exchange_strong(active, tag)) {
      return {static_cast<std::uint8_t>(tag), false};
    }
    return activate_slowly(cpu, vmid);
  }

 private:
  static constexpr std::uint64_t kNumberMask = kNumbers - 1;

  Activation activate_slowly(unsigned cpu, Vmid& vmid) EXCLUDES(lock_);
  [[nodiscard]] std::uint64_t renew(std::uint64_t old) REQUIRES(lock_);
  void begin_generation() REQUIRES(lock_);
  [[nodiscard]] bool is_used(unsigned number) const REQUIRES(lock_) {
    return (used_[number / 32] >> (number % 32) & 1) != 0;
  }
  void set_used(unsigned number) REQUIRES(lock_) { used_[number / 32] |= 1U << (number % 32); }

  Spinlock lock_;
  std::atomic<std::uint64_t> generation_ = kNumbers;
  // What each CPU runs or ran last; 0 after a new generation, until it enters again.
  std::array<std::atomic<std::uint64_t>, kMaxCpus> active_{};
  // What each CPU ran when the generation began.
  std::array<std::uint64_t, kMaxCpus> kept_ GUARDED_BY(lock_){};
  std::array<bool, kMaxCpus> flush_pending_ GUARDED_BY(lock_){};
  // By those that kept theirs; of the others all below `next_` are.
  std::array<std::uint32_t, kNumbers / 32> used_ GUARDED_BY(lock_){1};
  unsigned next_ GUARDED_BY(lock_) = 1;
};

}  // namespace cadastre
