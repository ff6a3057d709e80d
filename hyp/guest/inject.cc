#include "hyp/guest/inject.hh"

#include <cstdint>

#include "arch/armv7/cp15.hh"
#include "arch/armv7/hcr.hh"
#include "arch/armv7/psr.hh"
#include "hyp/guest/vcpu.hh"
#include "mm/translation/sctlr.hh"

namespace cadastre {
namespace {

namespace psr = arch::psr;

constexpr std::uint32_t kTtbcrLongDescriptors = 1U << 31;

constexpr std::uint32_t kVectorUndefined = 0x04;
constexpr std::uint32_t kVectorPrefetchAbort = 0x0c;
constexpr std::uint32_t kVectorDataAbort = 0x10;

// The processor's part of taking an exception to `mode` [ARMv7 B1.8.3, "TakeDataAbortException" and its siblings].
void enter_exception(Vcpu& vcpu, std::uint32_t mode, std::uint32_t vector, bool masks_aborts) {
  const std::uint32_t control = arch::SCTLR::read();
  const std::uint32_t base = (control & sctlr::kHighVectors) != 0 ? 0xffff0000 : arch::VBAR::read();
  std::uint32_t cpsr = vcpu.frame.cpsr;
  cpsr &= ~(psr::kModeMask | psr::kThumb | psr::kJazelle | psr::kBigEndian | psr::kItHigh | psr::kItLow);
  cpsr |= mode | psr::kIrqMask;
  if (masks_aborts) cpsr |= psr::kAbortMask;
  if ((control & sctlr::kThumbExceptions) != 0) cpsr |= psr::kThumb;
  if ((control & sctlr::kExceptionEndian) != 0) cpsr |= psr::kBigEndian;
  vcpu.frame.cpsr = cpsr;
  vcpu.frame.pc = base + vector;
}

void enter_abort(Vcpu& vcpu, std::uint32_t vector, std::uint32_t return_offset) {
  const std::uint32_t lr = vcpu.frame.pc + return_offset;
  const std::uint32_t spsr = vcpu.frame.cpsr;
  asm volatile("msr LR_abt, %0" : : "r"(lr));
  asm volatile("msr SPSR_abt, %0" : : "r"(spsr));
  enter_exception(vcpu, psr::kAbort, vector, /*masks_aborts=*/true);
}

bool long_format() {
  return (arch::TTBCR::read() & kTtbcrLongDescriptors) != 0;
}

// What a guest is told of a fault of stage 2, which it knows nothing of.
GuestFault as_guest_sees(GuestFault fault) {
  if (!fault.stage2) return fault;
  fault.kind = fault.on_walk ? FaultKind::kExternalOnWalk : FaultKind::kExternal;
  fault.level = fault.walk_level;
  return fault;
}

}  // namespace

void inject_undefined(Vcpu& vcpu) {
  // The return address of an undefined instruction is the next one [ARMv7 table B1-7].
  const std::uint32_t lr = vcpu.frame.pc + ((vcpu.frame.cpsr & psr::kThumb) != 0 ? 2 : 4);
  const std::uint32_t spsr = vcpu.frame.cpsr;
  asm volatile("msr LR_und, %0" : : "r"(lr));
  asm volatile("msr SPSR_und, %0" : : "r"(spsr));
  enter_exception(vcpu, psr::kUndefined, kVectorUndefined, /*masks_aborts=*/false);
}

void inject_data_abort(Vcpu& vcpu, GuestVirtAddr address, const GuestFault& fault, Access access) {
  arch::DFSR::write(dfsr_of(as_guest_sees(fault), long_format(), access));
  arch::DFAR::write(address.value());
  enter_abort(vcpu, kVectorDataAbort, 8);
}

void inject_prefetch_abort(Vcpu& vcpu, GuestVirtAddr address, const GuestFault& fault) {
  arch::IFSR::write(ifsr_of(as_guest_sees(fault), long_format()));
  arch::IFAR::write(address.value());
  enter_abort(vcpu, kVectorPrefetchAbort, 4);
}

void inject_asynchronous_abort() {
  arch::HCR::write(arch::HCR::read() | arch::hcr::kVirtualAbort);
}

}  // namespace cadastre
