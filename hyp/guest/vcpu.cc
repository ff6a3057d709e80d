#include "hyp/guest/vcpu.hh"

#include "arch/armv7/cp15.hh"
#include "arch/armv7/psr.hh"

namespace cadastre {

void Vcpu::reset() {
  frame = {};
  frame.cpsr = arch::psr::kSupervisor | arch::psr::kAbortMask | arch::psr::kIrqMask | arch::psr::kFiqMask;
  banked = {};
  system = {};
  // Bit 31: the format with affinity levels; the rest as QEMU numbers a cluster's CPUs [ARMv7 B4.1.106].
  constexpr std::uint32_t kMultiprocessing = 1U << 31;
  system.vmpidr = kMultiprocessing | index;
  virtual_timer = {};
  floating_point = {};
  gich = {};
  abort_pending = false;
  physical_timer = {};
  set_way = {};
  state.store(State::kOff, std::memory_order_relaxed);
}

void Vcpu::start(std::uint32_t entry, std::uint32_t context) {
  frame.pc = entry & ~1U;
  if ((entry & 1) != 0) frame.cpsr |= arch::psr::kThumb;
  frame.r[0] = context;
  state.store(State::kRunnable, std::memory_order_release);
}

}  // namespace cadastre
