// One virtual CPU of a guest.
#pragma once

#include <atomic>
#include <cstdint>

#include "arch/armv7/guest_frame.h"
#include "arch/armv7/guest_state.hh"
#include "hyp/devices/gich_state.hh"
#include "hyp/devices/vtimer.hh"
#include "hyp/emulate/set_way.hh"

namespace cadastre {

class TimeAccount;
class Vm;

struct Vcpu {
  // The account outlives it: what a guest has had of a CPU's time is not forgotten when it resets.
  Vcpu(Vm& owner, unsigned number, unsigned host_cpu, TimeAccount& its_account)
      : vm(owner), index(number), cpu(host_cpu), account(its_account) {
    reset();
  }
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  // As after power-on: SVC mode, everything masked, MMU and caches off [ARMv7 B1.9.1]. `pc` and r0 to r2 are the loader's.
  void reset();
  // Sets it running at `entry` (bit 0: in Thumb state) with r0 = `context`, as PSCI's CPU_ON [PSCI 6.4.3].
  void start(std::uint32_t entry, std::uint32_t context);

  enum class State : std::uint8_t {
    kOff,       // waits for CPU_ON, or for good
    kRunnable,  // wants its CPU
    kWaiting,   // in WFI: until an interrupt is pending
  };

  // The registers that every exit stores.
  GuestFrame frame;

  Vm& vm;
  const unsigned index;  // in its VM
  const unsigned cpu;    // the host CPU that it runs on, by its number
  std::atomic<State> state = State::kOff;
  std::atomic<bool> is_loaded = false;  // the hardware of its CPU has its state
  TimeAccount& account;                 // its share of that CPU
  unsigned slot = 0;                    // its number there (hyp/core/scheduler.hh)

  // What the hardware holds while the vCPU is loaded (hyp/guest/world_switch.hh).
  arch::BankedRegisters banked;
  arch::SystemRegisters system;
  arch::VirtualTimer virtual_timer;
  arch::FloatingPoint floating_point;
  GichState gich;
  bool abort_pending = false;  // HCR.VA: an asynchronous abort that it has masked [ARMv7 B1.8.11]

  EmulatedTimer physical_timer;      // CNTP, which traps
  bool physical_timer_line = false;  // as the vGIC has been told
  SetWayMaintenance set_way;
};

}  // namespace cadastre
