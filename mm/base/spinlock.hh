// A test-and-set lock. HYP runs with interrupts masked, so holding one needs nothing more. Not first come, first served: on
// an emulated machine whose CPUs are threads of a busy host, a lock that goes to whoever came first goes to a thread that
// is not running, and all others wait for it (measured: a run of the memory self-test on four CPUs did not end).
// The lock order is written once, in ARCHITECTURE.md.
#pragma once

#include <atomic>

#if __STDC_HOSTED__
#include <thread>
#endif

#include "mm/base/annotations.hh"

namespace cadastre {

// Between two looks at what another CPU, or another thread, is to change: every loop that waits has one. Whoever is to
// change it may not be running: let it. CPUs that an emulator runs one after the other, as QEMU does when it counts
// instructions, take turns at a YIELD [ARMv7 A8.8.426].
inline void spin_wait() {
#if __STDC_HOSTED__
  std::this_thread::yield();
#elif defined(__arm__)
  __builtin_arm_yield();
#endif
}

class CAPABILITY("spinlock") Spinlock {
 public:
  Spinlock() = default;
  Spinlock(const Spinlock&) = delete;
  Spinlock& operator=(const Spinlock&) = delete;

  void lock() ACQUIRE() {
    while (locked_.exchange(true, std::memory_order_acquire)) {
      // Look without writing, so that the line stays shared until it is worth trying.
      while (locked_.load(std::memory_order_relaxed)) spin_wait();
    }
  }
  void unlock() RELEASE() { locked_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> locked_ = false;
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
