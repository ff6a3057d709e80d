// The pure part of the PSCI 1.0 server [PSCI, DEN 0022D]: which vCPU may be switched on or off, and what a
// call answers. The hypervisor carries out what it decides. Functions and arguments are those of the 32-bit
// calling convention.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "hyp/devices/vcpu_limit.hh"
#include "platform/psci_functions.hh"

namespace cadastre {

struct PsciCall {
  std::uint32_t function = 0;                // r0
  std::array<std::uint32_t, 3> arguments{};  // r1 to r3
};

// What to do with the vCPU that called, and with others.
struct PsciDecision {
  enum class Action : std::uint8_t {
    kReturn,       // r0 = value
    kStandby,      // wait for an interrupt as WFI does, then r0 = value
    kCpuOff,       // stop this vCPU, then `stopped`
    kCpuOn,        // start vCPU `target` at `entry` with r0 = `context`, then `started`; the caller's r0 = value
    kSystemOff,    // this VM ends
    kSystemReset,  // this VM starts anew
  };
  Action action = Action::kReturn;
  std::uint32_t value = 0;
  unsigned target = 0;
  std::uint32_t entry = 0;  // bit 0: in Thumb state [PSCI 6.4.3]
  std::uint32_t context = 0;
};

// The power states of one VM's vCPUs. vCPU n has the affinity 0.0.n (MPIDR[23:0] = n). Any vCPU may call at
// any time.
class PsciServer {
 public:
  enum class Power : std::uint8_t { kOff, kOnPending, kOn };

  // vCPU 0 is on, the others are off.
  explicit PsciServer(unsigned vcpus);

  [[nodiscard]] PsciDecision call(const PsciCall& call);

  // What the hypervisor has done: between a decision and this, others see the state in between.
  void started(unsigned vcpu) { power_[vcpu].store(Power::kOn, std::memory_order_release); }
  void stopped(unsigned vcpu) { power_[vcpu].store(Power::kOff, std::memory_order_release); }
  [[nodiscard]] Power power(unsigned vcpu) const { return power_[vcpu].load(std::memory_order_acquire); }
  [[nodiscard]] bool all_off() const;
  // As after power-on.
  void reset();

 private:
  [[nodiscard]] PsciDecision cpu_suspend(std::uint32_t power_state) const;
  [[nodiscard]] PsciDecision cpu_on(std::uint32_t target, std::uint32_t entry, std::uint32_t context);
  [[nodiscard]] std::int32_t affinity_info(std::uint32_t affinity, std::uint32_t lowest_level) const;

  const unsigned vcpus_;
  std::array<std::atomic<Power>, kMaxVcpus> power_{};
};

}  // namespace cadastre
