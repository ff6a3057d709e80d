// A guest: its memory, its virtual CPUs, and the devices it sees.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "hyp/core/objects_of.hh"
#include "hyp/core/run_queue.hh"
#include "hyp/devices/mmio.hh"
#include "hyp/devices/psci.hh"
#include "hyp/devices/vgic.hh"
#include "hyp/devices/vpl011.hh"
#include "hyp/guest/guest_devices.hh"
#include "hyp/guest/vcpu.hh"
#include "mm/base/error.hh"
#include "mm/frames/frame_state.hh"
#include "mm/objects/per_cpu_pointer.hh"

namespace cadastre {

class GuestMemory;

class Vm {
 public:
  enum class Stop : std::uint8_t { kNone, kPowerOff, kReset, kFailed };

  // Takes nothing yet but its own members. `name`, its memory and the console outlive it.
  Vm(OwnerId id, std::string_view name, unsigned vcpus, GuestMemory& memory, TextSink& output);
  ~Vm();
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;

  using Accounts = std::array<TimeAccount, kMaxVcpus>;

  // Makes its vCPUs, on the host CPUs in turn from `first_cpu` on, each with an account of `accounts`, and maps its devices.
  [[nodiscard]] Result<> create(ObjectsOf<Vcpu>& cache, Accounts& accounts, unsigned first_cpu, unsigned host_cpus,
                                PhysAddr gicv);

  [[nodiscard]] OwnerId id() const { return id_; }
  [[nodiscard]] std::string_view name() const { return name_; }
  [[nodiscard]] GuestMemory& memory() { return memory_; }
  [[nodiscard]] Vgic& vgic() { return vgic_; }
  [[nodiscard]] Vpl011& uart() { return uart_; }
  [[nodiscard]] PsciServer& psci() { return psci_; }
  [[nodiscard]] const MmioMap& devices() const { return devices_; }
  [[nodiscard]] unsigned vcpu_count() const { return vcpu_count_; }
  [[nodiscard]] Vcpu& vcpu(unsigned index) { return *vcpus_[index]; }

  // Whether another of its vCPUs ran on this host CPU last: they share a VMID, but each has its own idea of its address space,
  // its ASIDs included, so what the TLB of this CPU remembers is not this one's.
  [[nodiscard]] bool takes_over(const Vcpu& vcpu) {
    const Vcpu* before = std::exchange(last_on_cpu_.of(vcpu.cpu), &vcpu);
    return before != nullptr && before != &vcpu;
  }

  // Something has changed in the vGIC for these vCPUs: those that run on other CPUs leave the guest for it, and those that wait
  // for an interrupt are woken up if one is pending now. Nobody else is disturbed.
  void kick(VcpuMask vcpus);

  // The guest ends, by what `vcpu` did. Its vCPUs leave their CPUs; the last to do so makes guest_stopped() run. The first
  // reason counts.
  void request_stop(Stop why, const Vcpu& vcpu);
  // It cannot go on: says why.
  void fail(std::string_view what, Error error, const Vcpu& vcpu);
  [[nodiscard]] bool stop_requested() const { return stop_.load(std::memory_order_acquire) != Stop::kNone; }
  [[nodiscard]] Stop stop_reason() const { return stop_.load(std::memory_order_acquire); }
  // Whose doing that was.
  [[nodiscard]] Vcpu& stopped_by() { return vcpu(stopped_by_.load(std::memory_order_acquire)); }
  // One vCPU is off its CPU for good; true for the last.
  [[nodiscard]] bool vcpu_stopped() { return live_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

 private:
  const OwnerId id_;
  const std::string_view name_;
  const unsigned vcpu_count_;
  std::atomic<Stop> stop_ = Stop::kNone;
  std::atomic<unsigned> stopped_by_ = 0;
  std::atomic<unsigned> live_;
  std::array<Vcpu*, kMaxVcpus> vcpus_{};
  ObjectsOf<Vcpu>* cache_ = nullptr;
  PerCpuPointer<const Vcpu*> last_on_cpu_;

  GuestMemory& memory_;
  Vgic vgic_;
  PsciServer psci_;
  UartLine uart_line_;
  Vpl011 uart_;
  VgicDevice vgic_device_;
  UartDevice uart_device_;
  MmioMap devices_;
};

}  // namespace cadastre
