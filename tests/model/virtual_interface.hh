// A GIC's virtual CPU interface (GICV) over one vCPU's list registers, as the hardware works
// [GICv2 5.2, 5.3]: what a guest acknowledges, and what its end of an interrupt does.
#pragma once

#include <bit>
#include <cstdint>
#include <functional>
#include <optional>

#include "hyp/devices/gich_state.hh"

namespace cadastre {

class VirtualInterface {
 public:
  struct Interrupt {
    unsigned number = 0;
    unsigned source = 0;    // of an SGI
    unsigned priority = 0;  // of 32

    friend bool operator==(const Interrupt&, const Interrupt&) = default;
  };

  // `deactivate_physical` gets the physical number when the guest ends a hardware interrupt.
  VirtualInterface(GichState& state, unsigned list_registers, std::function<void(unsigned)> deactivate_physical)
      : state_(state), list_registers_(list_registers), deactivate_physical_(std::move(deactivate_physical)) {}

  // The interrupt that is signalled to the vCPU: pending, unmasked, and more urgent than what runs.
  std::optional<Interrupt> signalled() const {
    std::optional<Interrupt> best;
    for (unsigned i = 0; i < list_registers_; ++i) {
      const std::uint32_t lr = state_.lr[i];
      if ((lr & gich::kLrState) != gich::kLrPending) continue;
      const Interrupt one = interrupt(lr);
      if (one.priority >= running_priority() || one.priority >= kMaskedPriority) continue;
      if (!best || one.priority < best->priority) best = one;
    }
    return best;
  }

  // A read of GICV_IAR.
  std::optional<Interrupt> acknowledge() {
    const auto best = signalled();
    if (best) {
      std::uint32_t& lr = *find(best->number);
      lr = (lr & ~gich::kLrState) | gich::kLrActive;
      state_.apr |= 1U << best->priority;
    }
    return best;
  }

  // A write of GICV_EOIR: priority drop, and deactivation unless the guest does that by itself (EOImode 1).
  void end(unsigned number, bool deactivates = true) {
    state_.apr &= state_.apr - 1;
    if (deactivates) deactivate(number);
  }

  // A write of GICV_DIR.
  void deactivate(unsigned number) {
    std::uint32_t* lr = find(number);
    if (lr == nullptr || (*lr & gich::kLrActive) == 0) {
      state_.hcr += 1U << gich::kHcrEoiCountShift;
      return;
    }
    *lr &= ~gich::kLrActive;
    if ((*lr & gich::kLrHardware) != 0) deactivate_physical_(*lr >> gich::kLrPhysicalIdShift & 0x3ff);
  }

  // GICH_MISR is not zero [GICv2 5.3.4].
  bool maintenance() const {
    bool ended = false;
    bool pending = false;
    unsigned valid = 0;
    for (unsigned i = 0; i < list_registers_; ++i) {
      const std::uint32_t lr = state_.lr[i];
      const std::uint32_t state = lr & gich::kLrState;
      if (state != 0) ++valid;
      // Pending and active counts: the specification may be read either way, and this is the one that hides more.
      pending |= (state & gich::kLrPending) != 0;
      ended |= state == 0 && (lr & (gich::kLrHardware | gich::kLrEoi)) == gich::kLrEoi;
    }
    const std::uint32_t hcr = state_.hcr;
    return ended || ((hcr & gich::kHcrUnderflow) != 0 && valid <= 1) ||
           ((hcr & gich::kHcrNoPending) != 0 && !pending) ||
           ((hcr & gich::kHcrEntryNotPresent) != 0 && hcr >> gich::kHcrEoiCountShift != 0);
  }

  // What is wrong with the list registers that the hypervisor has filled in; nullptr when nothing is
  // [GICv2 5.3.8].
  const char* fault() const {
    for (unsigned i = 0; i < gich::kMaxListRegisters; ++i) {
      const std::uint32_t lr = state_.lr[i];
      const bool used = (state_.used >> i & 1) != 0;
      if (lr != 0 && (!used || i >= list_registers_)) return "a list register that is not in use is not zero";
      if (used && (lr & gich::kLrState) == 0) return "a list register in use is in no state";
      if ((lr & gich::kLrHardware) != 0 && (lr & gich::kLrState) == gich::kLrState) {
        return "a hardware interrupt is pending and active";
      }
      for (unsigned j = 0; lr != 0 && j < i; ++j) {
        if (state_.lr[j] != 0 && ((state_.lr[j] ^ lr) & gich::kLrVirtualId) == 0) return "an interrupt is listed twice";
      }
    }
    return (state_.hcr & gich::kHcrEnable) == 0 ? "the virtual interface is off" : nullptr;
  }

  // Whether the list registers hold `number` in one of the states of `mask`.
  bool lists(unsigned number, std::uint32_t mask) const {
    for (unsigned i = 0; i < list_registers_; ++i) {
      if ((state_.lr[i] & mask) != 0 && (state_.lr[i] & gich::kLrVirtualId) == number) return true;
    }
    return false;
  }

 private:
  static constexpr unsigned kMaskedPriority = 31;  // GICV_PMR = 0xf8
  static constexpr unsigned kIdle = 32;

  static Interrupt interrupt(std::uint32_t lr) {
    const unsigned number = lr & gich::kLrVirtualId;
    return {.number = number,
            .source = number < 16 ? lr >> gich::kLrCpuIdShift & 7 : 0,
            .priority = lr >> gich::kLrPriorityShift & 0x1f};
  }
  unsigned running_priority() const {
    return state_.apr == 0 ? kIdle : static_cast<unsigned>(std::countr_zero(state_.apr));
  }
  std::uint32_t* find(unsigned number) {
    for (unsigned i = 0; i < list_registers_; ++i) {
      std::uint32_t& lr = state_.lr[i];
      if ((lr & gich::kLrState) != 0 && (lr & gich::kLrVirtualId) == number) return &lr;
    }
    return nullptr;
  }

  GichState& state_;
  const unsigned list_registers_;
  std::function<void(unsigned)> deactivate_physical_;
};

}  // namespace cadastre
