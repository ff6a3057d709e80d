// The machine as the memory manager needs it (mm/base/machine.hh): the running CPU, the linear map of low memory,
// and kmap for the rest.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arch/armv7/cpu.hh"
#include "arch/armv7/layout.hh"
#include "mm/base/address.hh"
#include "mm/base/machine.hh"
#include "mm/translation/descriptor.hh"

namespace cadastre::arch {

class ArmMachine {
 public:
  // `base`: what kLinear maps, 1 GiB aligned. `high`: the first frame beyond the map.
  void set_linear_map(PhysAddr base, Pfn high) {
    // Physical addresses of low memory differ from their mapping by a constant, modulo 2^32.
    linear_offset_ = layout::kLinear - static_cast<std::uint32_t>(base.value());
    linear_base_ = base;
    high_memory_ = high;
  }
  // The level-3 table of the kmap block.
  void set_kmap_table(Entry* table) { kmap_table_ = table; }

  [[nodiscard]] unsigned cpu() const { return this_cpu().index; }
  [[nodiscard]] std::byte* linear(PhysAddr address) const {
    return reinterpret_cast<std::byte*>(static_cast<std::uint32_t>(address.value()) + linear_offset_);
  }
  [[nodiscard]] PhysAddr linear_address(const void* pointer) const {
    return linear_base_ + (reinterpret_cast<std::uintptr_t>(pointer) - layout::kLinear);
  }
  [[nodiscard]] Pfn high_memory() const { return high_memory_; }

  // A window of this CPU onto a page, until `kunmap` of the newest. At most kKmapPagesPerCpu nest. Low memory
  // needs none.
  [[nodiscard]] std::byte* kmap(Pfn frame);
  void kunmap(const std::byte* window);

 private:
  std::uint32_t linear_offset_ = 0;
  PhysAddr linear_base_;
  Pfn high_memory_;
  Entry* kmap_table_ = nullptr;
};

// The one machine there is.
extern ArmMachine machine;

}  // namespace cadastre::arch
