// Variables of which each CPU has its own: PerCpu<T>, one T a CPU, each on cache lines of its own, so that nobody waits for a
// neighbour's writes.
//
//   PerCpu<RunQueue> queues;   queues.mine(machine)   queues.of(2)
//
// Who touches another CPU's variable agrees with it on how, as ever. Those that are allocated are PerCpuAllocator's
// (mm/objects/per_cpu_allocator.hh).
#pragma once

#include <array>
#include <cstddef>

#include "mm/base/machine.hh"

namespace cadastre {

inline constexpr std::size_t kCacheLine = 64;  // of the CPUs this runs on [Cortex-A7, -A15 TRM]

template <class T>
class PerCpu {
 public:
  constexpr PerCpu() = default;
  PerCpu(const PerCpu&) = delete;
  PerCpu& operator=(const PerCpu&) = delete;

  [[nodiscard]] constexpr T& of(unsigned cpu) { return slots_[cpu].value; }
  [[nodiscard]] constexpr const T& of(unsigned cpu) const { return slots_[cpu].value; }
  // The running CPU's.
  template <Machine M>
  [[nodiscard]] T& mine(const M& machine) {
    return of(machine.cpu());
  }

 private:
  struct alignas(kCacheLine) Slot {
    T value{};
  };
  std::array<Slot, kMaxCpus> slots_{};
};

}  // namespace cadastre
