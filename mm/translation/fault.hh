// Makes the Nth allocation fail, so that tests see every way out of every function.
#pragma once

#include <atomic>
#include <cstdint>

namespace cadastre {

class FaultInjector {
 public:
  // The `nth` attempt from now fails (0 is the next one), and only that one.
  void arm(std::uint32_t nth) {
    attempts_ = 0;
    fail_at_ = nth;
  }
  void disarm() { fail_at_ = kNever; }
  // Attempts since `arm`: when it is at most `nth`, the path has no more than that many.
  [[nodiscard]] std::uint32_t attempts() const { return attempts_; }

  [[nodiscard]] bool should_fail() { return attempts_.fetch_add(1, std::memory_order_relaxed) == fail_at_; }

 private:
  static constexpr std::uint32_t kNever = ~std::uint32_t{0};
  std::atomic<std::uint32_t> attempts_ = 0;
  std::atomic<std::uint32_t> fail_at_ = kNever;  // which one CPU may arm while others allocate
};

}  // namespace cadastre
