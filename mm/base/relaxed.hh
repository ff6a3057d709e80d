// Plain fields that another CPU may read meanwhile: single loads and stores, no order implied.
#pragma once

#include <atomic>
#include <concepts>

namespace cadastre {

template <std::unsigned_integral T>
[[nodiscard]] inline T relaxed_load(const T& field) {
  // atomic_ref wants an object that is not const before C++26; it only loads.
  return std::atomic_ref<T>(const_cast<T&>(field)).load(std::memory_order_relaxed);
}

template <std::unsigned_integral T>
inline void relaxed_store(T& field, T value) {
  std::atomic_ref<T>(field).store(value, std::memory_order_relaxed);
}

}  // namespace cadastre
