// Which device answers at an intermediate physical address.
//
//     IPA --find()--> window --offset--> device.read / device.write
#pragma once

#include <array>
#include <cstdint>

#include "mm/base/address.hh"
#include "mm/base/error.hh"

namespace cadastre {

// The device's side. `size` is 1, 2 or 4 bytes; values are right-aligned, and what is above `size` bytes of a
// write is for the device to ignore. Both are called by the vCPU that made the access.
class MmioDevice {
 public:
  MmioDevice() = default;
  MmioDevice(const MmioDevice&) = delete;
  MmioDevice& operator=(const MmioDevice&) = delete;
  [[nodiscard]] virtual std::uint32_t read(unsigned vcpu, std::uint32_t offset, unsigned size) = 0;
  virtual void write(unsigned vcpu, std::uint32_t offset, unsigned size, std::uint32_t value) = 0;

 protected:
  ~MmioDevice() = default;
};

// Where an access lands.
struct MmioTarget {
  MmioDevice* device = nullptr;
  std::uint32_t offset = 0;
  explicit operator bool() const { return device != nullptr; }
};

// One VM's windows: filled before it runs, read without a lock afterwards. Devices outlive it.
class MmioMap {
 public:
  static constexpr unsigned kMaxWindows = 16;

  // kInvalid: no size, or beyond 4 GiB of window; kOverlap; kLimit: too many. Add what is used most first.
  Result<> add(IpaAddr base, std::uint64_t size, MmioDevice& device) {
    if (size == 0 || size > std::uint64_t{1} << 32 || base.value() + size < base.value()) {
      return std::unexpected(Error::kInvalid);
    }
    for (unsigned i = 0; i < count_; ++i) {
      if (base - windows_[i].base <= windows_[i].last || windows_[i].base - base < size) {
        return std::unexpected(Error::kOverlap);
      }
    }
    if (count_ == kMaxWindows) return std::unexpected(Error::kLimit);
    windows_[count_++] = {.base = base, .last = static_cast<std::uint32_t>(size - 1), .device = &device};
    return {};
  }

  // The device that claims all `size` bytes at `address`; none: the access is an external abort.
  [[nodiscard]] MmioTarget find(IpaAddr address, unsigned size) const {
    for (const Window* window = windows_.data(); window != windows_.data() + count_; ++window) {
      const std::uint64_t distance = address - window->base;
      const auto offset = static_cast<std::uint32_t>(distance);
      if (distance >> 32 == 0 && offset <= window->last && window->last - offset >= size - 1) {
        return {.device = window->device, .offset = offset};
      }
    }
    return {};
  }

 private:
  struct Window {
    IpaAddr base;
    std::uint32_t last = 0;  // byte of it: a window may have 4 GiB
    MmioDevice* device = nullptr;
  };
  std::array<Window, kMaxWindows> windows_{};
  unsigned count_ = 0;
};

}  // namespace cadastre
