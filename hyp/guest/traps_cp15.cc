// Coprocessor accesses that trap: registers that a guest sees in our way, or not at all.
//
//   CNTP_*          the physical timer, emulated (CNTHCTL.PL1PCEN)
//   ACTLR           read-only, with SMP set (HCR.TAC)
//   DC*SW           set/way maintenance: all that the guest has mapped is cleaned, once a round (HCR.TSW)
//   L2CTLR          how many CPUs there are, Cortex-A7 and A15 (HCR.TIDCP)
//   PM*, debug      not there: read as zero, writes are ignored (HDCR.TPM, HDCR.TDA)
//   anything else   UNDEFINED
#include <cstdint>

#include "arch/armv7/cp15.hh"
#include "arch/armv7/hsr.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/inject.hh"
#include "hyp/guest/instruction.hh"
#include "hyp/guest/registers.hh"
#include "hyp/guest/timers.hh"
#include "hyp/guest/traps.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"

namespace cadastre {
namespace {

using arch::ExceptionClass;
using arch::Syndrome;

constexpr std::uint32_t key(unsigned crn, unsigned op1, unsigned crm, unsigned op2) {
  return (crn << 12) | (op1 << 8) | (crm << 4) | op2;
}

// The handler's answer: whether the register exists. `value` is in for a write, out for a read.
bool access_cp15(Vcpu& vcpu, Syndrome syndrome, std::uint32_t& value) {
  const bool read = syndrome.is_read();
  switch (key(syndrome.crn(), syndrome.op1(), syndrome.crm(), syndrome.op2())) {
    case key(1, 0, 0, 1): {  // ACTLR: both CPUs have SMP at bit 6
      constexpr std::uint32_t kSmp = 1U << 6;
      if (read) value = arch::ACTLR::read() | kSmp;
      return true;
    }
    case key(9, 1, 0, 2): {  // L2CTLR: number of CPUs - 1 in [25:24]
      if (read) value = (vcpu.vm.vcpu_count() - 1) << 24;
      return true;
    }
    case key(9, 1, 0, 3):  // L2ECTLR
      if (read) value = 0;
      return true;
    case key(14, 0, 2, 0):
      access_timer_value(vcpu, read, value);
      return true;  // CNTP_TVAL
    case key(14, 0, 2, 1):
      access_timer_control(vcpu, read, value);
      return true;  // CNTP_CTL
    default:
      break;
  }
  // The performance monitors, c9 c12 to c14: PMCR.N = 0 says that there are no counters.
  if (syndrome.crn() == 9 && syndrome.op1() == 0 && syndrome.crm() >= 12 && syndrome.crm() <= 14) {
    if (read) value = 0;
    return true;
  }
  return false;
}

// DCISW, DCCSW and DCCISW; a read of them is UNDEFINED.
bool is_set_way(Syndrome syndrome) {
  if (syndrome.exception_class() != ExceptionClass::kCp15_32 || syndrome.is_read()) return false;
  const std::uint32_t name = key(syndrome.crn(), syndrome.op1(), syndrome.crm(), syndrome.op2());
  return name == key(7, 0, 6, 2) || name == key(7, 0, 10, 2) || name == key(7, 0, 14, 2);
}
SetWayMaintenance::Step maintain(Vcpu& vcpu, Syndrome syndrome) {
  return vcpu.set_way.trap(guest_register(vcpu, syndrome.rt()),
                           [&](std::uint64_t from) { return vcpu.vm.memory().clean_some(from); });
}

bool access_cp15_64(Vcpu& vcpu, Syndrome syndrome, std::uint64_t& value) {
  if (syndrome.crm() == 14 && syndrome.op1_64() == 2) {  // CNTP_CVAL
    access_timer_compare(vcpu, syndrome.is_read(), value);
    return true;
  }
  return false;
}

// Debug registers, op1 = 0 [ARMv7 C11.11]; ThumbEE and Jazelle are not ours to trap.
bool access_cp14(Syndrome syndrome, std::uint32_t& value) {
  if (syndrome.op1() != 0) return false;
  if (syndrome.is_read()) value = 0;
  return true;
}

bool transfer_32(Vcpu& vcpu, Syndrome syndrome) {
  std::uint32_t value = syndrome.is_read() ? 0 : guest_register(vcpu, syndrome.rt());
  const bool exists = syndrome.exception_class() == ExceptionClass::kCp15_32 ? access_cp15(vcpu, syndrome, value)
                                                                             : access_cp14(syndrome, value);
  if (exists && syndrome.is_read()) set_guest_register(vcpu, syndrome.rt(), value);
  return exists;
}

bool transfer_64(Vcpu& vcpu, Syndrome syndrome) {
  std::uint64_t value = 0;
  if (!syndrome.is_read()) {
    value = guest_register(vcpu, syndrome.rt()) | (std::uint64_t{guest_register(vcpu, syndrome.rt2())} << 32);
  }
  bool exists = false;
  if (syndrome.exception_class() == ExceptionClass::kCp15_64) {
    exists = access_cp15_64(vcpu, syndrome, value);
  } else {
    exists = true;  // DBGDRAR, DBGDSAR: no memory-mapped debug
  }
  if (exists && syndrome.is_read()) {
    set_guest_register(vcpu, syndrome.rt(), static_cast<std::uint32_t>(value));
    set_guest_register(vcpu, syndrome.rt2(), static_cast<std::uint32_t>(value >> 32));
  }
  return exists;
}

}  // namespace

void handle_coprocessor(Vcpu& vcpu, Syndrome syndrome) {
  if (condition_holds(vcpu, syndrome)) {
    if (is_set_way(syndrome)) {
      // In between, interrupts are taken.
      if (maintain(vcpu, syndrome) == SetWayMaintenance::Step::kAgain) return;
      return skip_instruction(vcpu, syndrome);
    }
    const bool wide = syndrome.exception_class() == ExceptionClass::kCp15_64 ||
                      syndrome.exception_class() == ExceptionClass::kCp14_64;
    if (!(wide ? transfer_64(vcpu, syndrome) : transfer_32(vcpu, syndrome))) return inject_undefined(vcpu);
  }
  skip_instruction(vcpu, syndrome);
}

}  // namespace cadastre
