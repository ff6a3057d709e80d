// A ticket lock: first come, first served. HYP runs with interrupts masked, so holding one needs nothing
// more. The lock order is written once, in ARCHITECTURE.md.
#pragma once

#include <atomic>
#include <cstdint>

#if __STDC_HOSTED__
#include <sched.h>
#endif

#include "mm/annotations.hh"

namespace cadastre {

// Between two looks at a lock. On a host whoever is next in line may not be running: let it.
inline void spin_wait() {
#if __STDC_HOSTED__
  sched_yield();
#endif
}

class CAPABILITY("spinlock") Spinlock {
 public:
  Spinlock() = default;
  Spinlock(const Spinlock&) = delete;
  Spinlock& operator=(const Spinlock&) = delete;

  void lock() ACQUIRE() {
    const std::uint32_t ticket = next_.fetch_add(1, std::memory_order_relaxed);
    while (serving_.load(std::memory_order_acquire) != ticket) spin_wait();
  }
  void unlock() RELEASE() { serving_.store(serving_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }

 private:
  std::atomic<std::uint32_t> next_ = 0;
  std::atomic<std::uint32_t> serving_ = 0;
};

class SCOPED_CAPABILITY SpinlockGuard {
 public:
  explicit SpinlockGuard(Spinlock& lock) ACQUIRE(lock) : lock_(lock) { lock_.lock(); }
  ~SpinlockGuard() RELEASE() { lock_.unlock(); }
  SpinlockGuard(const SpinlockGuard&) = delete;
  SpinlockGuard& operator=(const SpinlockGuard&) = delete;

 private:
  Spinlock& lock_;
};

}  // namespace cadastre
