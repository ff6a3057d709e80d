#include "hyp/guest/vm.hh"

#include "arch/armv7/cpu.hh"
#include "hyp/core/console.hh"
#include "hyp/core/console_input.hh"
#include "hyp/core/interrupts.hh"
#include "hyp/core/memory.hh"
#include "hyp/core/scheduler.hh"
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

Result<> Vm::create(ObjectsOf<Vcpu>& cache, unsigned first_cpu, unsigned host_cpus, PhysAddr gicv) {
  cache_ = &cache;
  const auto last_on_cpu = cadastre::memory.per_cpu.create<const Vcpu*>();
  if (!last_on_cpu) return std::unexpected(last_on_cpu.error());
  last_on_cpu_ = *last_on_cpu;
  for (unsigned i = 0; i < vcpu_count_; ++i) {
    const Result<Vcpu*> vcpu = cache.create(*this, i, (first_cpu + i) % host_cpus);
    if (!vcpu) return std::unexpected(vcpu.error());
    vcpus_[i] = *vcpu;
  }
  return memory_.map_device(guest_map::kGicCpuInterface, gicv, guest_map::kGicCpuInterfaceSize)
      .and_then([&] { return devices_.add(guest_map::kGicDistributor, kPageSize, vgic_device_); })
      .and_then([&] { return devices_.add(guest_map::kUart, kPageSize, uart_device_); });
}

void Vm::kick(VcpuMask vcpus) {
  for (unsigned i = 0; vcpus != 0; ++i, vcpus >>= 1) {
    if ((vcpus & 1) != 0) kick_cpu(vcpus_[i]->cpu);
  }
}

void Vm::set_private_line(const Vcpu& vcpu, unsigned interrupt, bool level) {
  kick(vgic_.set_level(vcpu.index, interrupt, level));
}

void Vm::request_stop(Stop why, const Vcpu& vcpu) {
  Stop none = Stop::kNone;
  if (stop_.compare_exchange_strong(none, why, std::memory_order_acq_rel)) {
    // This vCPU has not left its CPU yet, so nobody looks before it is there.
    stopped_by_.store(vcpu.index, std::memory_order_release);
  }
  kick((VcpuMask{1} << vcpu_count_) - 1);
}

void Vm::fail(std::string_view what, Error error, const Vcpu& vcpu) {
  console.print("{}: {}: {}", name_, what, to_string(error));
  request_stop(Stop::kFailed, vcpu);
}

}  // namespace cadastre
