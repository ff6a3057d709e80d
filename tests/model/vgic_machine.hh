// A VM of interrupts only: a Vgic, and vCPUs that run at once, each on a CPU with a virtual interface of its
// own. It treats the Vgic as the hypervisor does: a vCPU that is in the guest comes back only when it is
// kicked, traps, or has a maintenance interrupt; a vCPU that waits is synced.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "hyp/devices/bits.hh"
#include "hyp/devices/vgic.hh"
#include "tests/model/virtual_interface.hh"

namespace cadastre {

class VgicMachine {
 public:
  static constexpr unsigned kVirtualTimer = 27;
  using Interrupt = VirtualInterface::Interrupt;

  VgicMachine(unsigned vcpus, unsigned list_registers) : vgic_(vcpus, list_registers) {
    for (unsigned v = 0; v < vcpus; ++v) vcpus_.emplace_back(list_registers);
    for (unsigned v = 0; v < vcpus; ++v) enter(v);
  }

  Vgic& vgic() { return vgic_; }
  unsigned vcpus() const { return vgic_.vcpus(); }
  GichState& image(unsigned v) { return vcpus_[v].image; }
  VirtualInterface& interface(unsigned v) { return vcpus_[v].interface; }
  bool in_guest(unsigned v) const { return vcpus_[v].in_guest; }
  bool physical_timer_active(unsigned v) const { return vcpus_[v].timer_active; }
  // How often a vCPU had its list registers filled.
  unsigned flushes() const { return flushes_; }
  // The first thing that went wrong: a fault in a list register, a maintenance interrupt that never ends, a
  // vCPU that is to look again and was not kicked.
  const std::string& failure() const { return failure_; }

  // Traps of vCPU `v`.
  std::uint32_t read(unsigned v, std::uint32_t offset, unsigned size = 4) {
    const VcpuMask held = prepare(v, offset);
    const std::uint32_t value = vgic_.read(v, offset, size);
    resume(held | 1U << v);
    return value;
  }
  void write(unsigned v, std::uint32_t offset, std::uint32_t value, unsigned size = 4) {
    const VcpuMask held = prepare(v, offset);
    kick(vgic_.write(v, offset, size, value));
    resume(held | 1U << v);
  }
  // WFI, and the way back.
  void wait(unsigned v) { leave(v, false); }
  void wake(unsigned v) { enter(v); }

  // What happens outside.
  void set_level(unsigned v, unsigned interrupt, bool level) { kick(vgic_.set_level(v, interrupt, level)); }
  void pulse(unsigned v, unsigned interrupt) { kick(vgic_.raise(v, interrupt)); }
  // The physical timer fires, unless its interrupt is active still.
  bool fire_timer(unsigned v) {
    if (vcpus_[v].timer_active) return false;
    vcpus_[v].timer_active = true;
    kick(vgic_.raise_hardware(v, kVirtualTimer, kVirtualTimer));
    return true;
  }

  // What the guest does without a trap.
  std::optional<Interrupt> acknowledge(unsigned v) {
    const auto interrupt = vcpus_[v].interface.acknowledge();
    maintain(v);
    return interrupt;
  }
  void end(unsigned v, unsigned interrupt, bool deactivates = true) {
    vcpus_[v].interface.end(interrupt, deactivates);
    maintain(v);
  }
  void deactivate(unsigned v, unsigned interrupt) {
    vcpus_[v].interface.deactivate(interrupt);
    maintain(v);
  }

  void reset() {
    for (unsigned v = 0; v < vcpus(); ++v) leave(v, true);
    vgic_.reset();
    for (unsigned v = 0; v < vcpus(); ++v) {
      vcpus_[v].image = {};
      enter(v);
    }
  }

 private:
  struct Vcpu {
    explicit Vcpu(unsigned list_registers)
        : interface(image, list_registers, [this](unsigned) { timer_active = false; }) {}
    GichState image;
    VirtualInterface interface;
    bool timer_active = false;
    bool in_guest = false;
  };

  // Folds the list registers of `v` and of those that must be held out of the guest while it looks.
  VcpuMask prepare(unsigned v, std::uint32_t offset) {
    if (!Vgic::needs_sync(offset)) return 0;
    leave(v, false);
    // What one lets go of may be taken up by the next.
    VcpuMask held = 0;
    while (const VcpuMask others = vgic_.listing_elsewhere(v, offset)) {
      if ((held & others) != 0) failure_ = "a synced vCPU lists an interrupt";
      for (const unsigned other : Bits(others)) leave(other, false);
      held |= others;
    }
    return held;
  }
  void resume(VcpuMask vcpus) {
    for (const unsigned v : Bits(vcpus)) enter(v);
  }
  void leave(unsigned v, bool forever) {
    vcpus_[v].in_guest = false;
    const VcpuMask others = vgic_.sync(v, vcpus_[v].image);
    if (!forever) kick(others);
  }
  void kick(VcpuMask vcpus) {
    for (const unsigned v : Bits(vcpus)) {
      if (vcpus_[v].in_guest) enter(v);
    }
  }
  void maintain(unsigned v) {
    if (vcpus_[v].interface.maintenance()) {
      vgic_.mark_dirty(v);
      enter(v);
    }
  }
  void enter(unsigned v) {
    Vcpu& vcpu = vcpus_[v];
    vcpu.in_guest = true;
    if (!vgic_.dirty(v)) return;
    ++flushes_;
    const VcpuMask others = vgic_.flush(v, vcpu.image);
    while (vgic_.next_deactivation(v)) {
      if (!vcpu.timer_active) failure_ = "a physical interrupt is deactivated that is not active";
      vcpu.timer_active = false;
    }
    if (vgic_.dirty(v)) failure_ = "dirty right after a flush";
    if (const char* fault = vcpu.interface.fault(); fault != nullptr) failure_ = fault;
    if (vcpu.interface.maintenance()) failure_ = "a maintenance interrupt that a flush does not end";
    kick(others);
  }

  Vgic vgic_;
  std::deque<Vcpu> vcpus_;
  unsigned flushes_ = 0;
  std::string failure_;
};

}  // namespace cadastre
