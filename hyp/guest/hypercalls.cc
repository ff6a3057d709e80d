// HVC (and SMC) from a guest: PSCI 1.0 [PSCI 5], by the SMC calling convention. What is not known answers NOT_SUPPORTED.
#include "hyp/core/scheduler.hh"
#include "hyp/devices/psci.hh"
#include "hyp/guest/traps.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"

namespace cadastre {
namespace {

void start_vcpu(Vm& vm, const PsciDecision& decision) {
  Vcpu& target = vm.vcpu(decision.target);
  target.reset();
  vm.psci().started(decision.target);  // once it runs it may be off again at any time
  target.start(decision.entry, decision.context);
  look_at(target);
}

}  // namespace

void handle_smccc(Vcpu& vcpu) {
  auto& r = vcpu.frame.r;
  const PsciDecision decision = vcpu.vm.psci().call({.function = r[0], .arguments = {r[1], r[2], r[3]}});
  using Action = PsciDecision::Action;
  switch (decision.action) {
    case Action::kReturn:
      r[0] = decision.value;
      return;
    case Action::kStandby:
      r[0] = decision.value;
      vcpu.state.store(Vcpu::State::kWaiting, std::memory_order_relaxed);
      return;
    case Action::kCpuOn:
      r[0] = decision.value;
      start_vcpu(vcpu.vm, decision);
      return;
    case Action::kCpuOff:
      vcpu.state.store(Vcpu::State::kOff, std::memory_order_relaxed);  // `stopped` when it has left its CPU
      return;
    case Action::kSystemOff:
      vcpu.vm.request_stop(Vm::Stop::kPowerOff, vcpu);
      return;
    case Action::kSystemReset:
      vcpu.vm.request_stop(Vm::Stop::kReset, vcpu);
      return;
  }
}

}  // namespace cadastre
