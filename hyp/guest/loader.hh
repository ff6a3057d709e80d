// Puts a guest's images and its device tree into its RAM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "hyp/config/image.hh"
#include "hyp/config/plan.hh"
#include "mm/base/error.hh"

namespace cadastre {

class Vm;

// As the plan's layout says, in steps; the plan has been checked.
class Loader {
 public:
  // Returns whether there is more; kNoMemory when there is not enough for it.
  [[nodiscard]] Result<bool> step(Vm& vm, const GuestPlan& plan);

 private:
  std::size_t segment_ = 0;  // the next one
  std::uint64_t done_ = 0;   // of it, bytes
  bool dtb_has_place_ = false;
};

// The machine's RAM, low or high, for whoever looks into modules before they are loaded.
class MappedReader final : public PhysReader {
 public:
  void read(PhysAddr from, std::span<std::byte> to) override;
};

}  // namespace cadastre
