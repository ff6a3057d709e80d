#include "hyp/guest/vm.hh"

#include "arch/armv7/cpu.hh"
#include "hyp/core/console.hh"
#include "hyp/core/console_input.hh"
#include "hyp/core/interrupts.hh"
#include "hyp/core/memory.hh"
#include "hyp/core/scheduler.hh"
#include "hyp/devices/bits.hh"
#include "hyp/guest/guest_map.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/timers.hh"

namespace cadastre {

Vm::Vm(OwnerId id, std::string_view name, unsigned vcpus, GuestMemory& memory, TextSink& output)
    : id_(id),
      name_(name),
      vcpu_count_(vcpus),
      live_(vcpus),
      memory_(memory),
      vgic_(vcpus, gic.list_registers()),
      psci_(vcpus),
      uart_line_(*this),
      uart_(output, uart_line_),
      vgic_device_(*this),
      uart_device_(*this) {}

Vm::~Vm() {
  for (Vcpu* vcpu : vcpus_) {
    if (vcpu != nullptr) cache_->destroy(vcpu);
  }
  cadastre::memory.per_cpu.destroy(last_on_cpu_);
}

Result<> Vm::create(ObjectsOf<Vcpu>& cache, Accounts& accounts, unsigned first_cpu, unsigned host_cpus, PhysAddr gicv) {
  cache_ = &cache;
  const auto last_on_cpu = cadastre::memory.per_cpu.create<const Vcpu*>();
  if (!last_on_cpu) return std::unexpected(last_on_cpu.error());
  last_on_cpu_ = *last_on_cpu;
  for (unsigned i = 0; i < vcpu_count_; ++i) {
    const Result<Vcpu*> vcpu = cache.create(*this, i, (first_cpu + i) % host_cpus, accounts[i]);
    if (!vcpu) return std::unexpected(vcpu.error());
    vcpus_[i] = *vcpu;
  }
  return memory_.map_device(guest_map::kGicCpuInterface, gicv, guest_map::kGicCpuInterfaceSize)
      .and_then([&] { return devices_.add(guest_map::kGicDistributor, kPageSize, vgic_device_); })
      .and_then([&] { return devices_.add(guest_map::kUart, kPageSize, uart_device_); });
}

void Vm::kick(VcpuMask vcpus) {
  for (const unsigned i : Bits(vcpus)) {
    const Vcpu& vcpu = *vcpus_[i];
    // Its CPU changes both before it looks at the vGIC, under whose lock the change was made: either it has seen that, or
    // what it is going to do is seen here.
    switch (vcpu.state.load(std::memory_order_relaxed)) {
      case Vcpu::State::kOff:
        break;
      case Vcpu::State::kRunnable:
        // On this CPU it is the one that runs, and its list registers are brought up to date before it goes on.
        if (vcpu.is_loaded.load(std::memory_order_relaxed) && vcpu.cpu != arch::this_cpu().index) look_at(vcpu);
        break;
      case Vcpu::State::kWaiting:
        if (vgic_.has_pending(i)) look_at(vcpu);
        break;
    }
  }
}

void Vm::request_stop(Stop why, const Vcpu& vcpu) {
  Stop none = Stop::kNone;
  if (stop_.compare_exchange_strong(none, why, std::memory_order_acq_rel)) {
    // This vCPU has not left its CPU yet, so nobody looks before it is there.
    stopped_by_.store(vcpu.index, std::memory_order_release);
  }
  for (unsigned i = 0; i < vcpu_count_; ++i) look_at(*vcpus_[i]);
}

void Vm::fail(std::string_view what, Error error, const Vcpu& vcpu) {
  console.print("{}: {}: {}", name_, what, to_string(error));
  request_stop(Stop::kFailed, vcpu);
}

}  // namespace cadastre
