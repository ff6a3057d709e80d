#include "hyp/guest/traps.hh"

#include "arch/armv7/cp15.hh"
#include "arch/armv7/psr.hh"
#include "hyp/guest/inject.hh"
#include "hyp/guest/instruction.hh"
#include "hyp/guest/vcpu.hh"

namespace cadastre {
namespace {

// WFI with an interrupt pending, and WFE, are no reason to stop [ARMv7 B1.8.13, B1.8.14]; the scheduler looks for the
// former.
void handle_wait(Vcpu& vcpu, arch::Syndrome syndrome) {
  if (condition_holds(vcpu, syndrome) && !syndrome.is_wfe()) {
    vcpu.state.store(Vcpu::State::kWaiting, std::memory_order_relaxed);
  }
  skip_instruction(vcpu, syndrome);
}

// SMC traps before it is executed, so the pc is still at it; HVC's return address is behind it [ARMv7 B1.8.9].
void handle_smc(Vcpu& vcpu, arch::Syndrome syndrome) {
  const bool executes = condition_holds(vcpu, syndrome);
  skip_instruction(vcpu, syndrome);
  if (executes) handle_smccc(vcpu);
}

}  // namespace

void handle_trap(Vcpu& vcpu) {
  const arch::Syndrome syndrome(arch::HSR::read());
  using arch::ExceptionClass;
  const ExceptionClass exception = syndrome.exception_class();
  // By far the most frequent ones first; a switch does not promise that.
  if (exception == ExceptionClass::kHvc) return handle_smccc(vcpu);
  if (exception == ExceptionClass::kDataAbort) return handle_data_abort(vcpu, syndrome);
  switch (exception) {
    case ExceptionClass::kPrefetchAbort:
      return handle_prefetch_abort(vcpu, syndrome);
    case ExceptionClass::kWfx:
      return handle_wait(vcpu, syndrome);
    case ExceptionClass::kSmc:
      return handle_smc(vcpu, syndrome);
    case ExceptionClass::kCp15_32:
    case ExceptionClass::kCp15_64:
    case ExceptionClass::kCp14_32:
    case ExceptionClass::kCp14_64:
      return handle_coprocessor(vcpu, syndrome);
    // Debug transfers with memory, Jazelle, floating point that CPACR or HCPTR deny: nothing that this machine has.
    default:
      return inject_undefined(vcpu);
  }
}

}  // namespace cadastre
