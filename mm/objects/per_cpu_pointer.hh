// What PerCpuAllocator (per_cpu_allocator.hh) gives out.
#pragma once

#include <cstddef>
#include <new>

#include "mm/base/address.hh"
#include "mm/base/machine.hh"

namespace cadastre {

// One variable of each CPU. Null until it is one that PerCpuAllocator made.
template <class T>
class PerCpuPointer {
 public:
  static constexpr std::size_t kUnit = kPageSize;

  constexpr PerCpuPointer() = default;
  explicit PerCpuPointer(std::byte* first) : first_(first) {}

  [[nodiscard]] T& of(unsigned cpu) const { return *std::launder(reinterpret_cast<T*>(first_ + cpu * kUnit)); }
  template <Machine M>
  [[nodiscard]] T& mine(const M& machine) const {
    return of(machine.cpu());
  }
  [[nodiscard]] std::byte* address() const { return first_; }
  [[nodiscard]] explicit operator bool() const { return first_ != nullptr; }

 private:
  std::byte* first_ = nullptr;  // CPU 0's
};

}  // namespace cadastre
