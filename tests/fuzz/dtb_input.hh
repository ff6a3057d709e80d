// What the fuzz targets that read a device tree share: a guarded copy of the input, and (in the .cc) a mutator that keeps
// half of the trees whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace cadastre {

// The bytes in front of a page that must not be touched: libfdt is not instrumented, so that its reading beyond the end
// would go unnoticed otherwise. 8-byte aligned; up to seven bytes behind the end are not guarded.
class GuardedBytes {
 public:
  explicit GuardedBytes(std::span<const std::uint8_t> bytes);
  ~GuardedBytes();
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  void* start_;
  std::size_t size_;
  std::span<const std::byte> bytes_;
};

}  // namespace cadastre
