// `check=walk` on the command line: GuestWalk held against this CPU in the address spaces of real guests, while they run.
#pragma once

#include <cstdint>
#include <optional>

#include "hyp/check/cpu_translation.hh"
#include "mm/base/address.hh"

namespace cadastre {

struct Vcpu;
class Vm;

class WalkCheck {
 public:
  // From now on. `address`: one that finish() says the translation of (`walk-address=N`).
  void enable(const CpuDeviations& cpu, std::optional<GuestVirtAddr> address);
  [[nodiscard]] bool enabled() const { return enabled_; }

  // The loaded vCPU, before it goes on: where it is, and the next part of its address space, every address for all four
  // operations. A guest's vCPUs take turns with one address space after the other, so that all of each is seen in the end.
  void sample(Vcpu& vcpu);
  // The guest ended: what was found. False: GuestWalk and the CPU differed.
  [[nodiscard]] bool finish(Vm& vm);

 private:
  bool enabled_ = false;
  CpuDeviations cpu_;
  std::optional<GuestVirtAddr> address_;
};

extern WalkCheck walk_check;

}  // namespace cadastre
