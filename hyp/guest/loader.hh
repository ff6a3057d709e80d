// Puts a guest's images and its device tree into its RAM.
#pragma once

#include <cstddef>
#include <span>

#include "hyp/config/image.hh"
#include "hyp/config/plan.hh"
#include "mm/base/error.hh"

namespace cadastre {

class Vm;

// As the plan's layout says; the plan has been checked. kNoMemory when there is not enough for it.
[[nodiscard]] Result<> load_guest(Vm& vm, const GuestPlan& plan);

// The machine's RAM, low or high, for whoever looks into modules before they are loaded.
class MappedReader final : public PhysReader {
 public:
  void read(PhysAddr from, std::span<std::byte> to) override;
};

}  // namespace cadastre
