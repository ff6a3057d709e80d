#include "arch/armv7/guest_state.hh"

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"

namespace cadastre::arch {

// floating_point.S, which may name VFP registers.
extern "C" void floating_point_save(FloatingPoint* state);
extern "C" void floating_point_restore(const FloatingPoint* state);

namespace {

// MRS and MSR of another mode's registers are part of the Virtualization Extensions [ARMv7 B9.3.9, B9.3.11].
#define READ_BANKED(field, name) asm volatile("mrs %0, " #name : "=r"(registers.field))
#define WRITE_BANKED(field, name) asm volatile("msr " #name ", %0" : : "r"(registers.field))
#define FOR_EACH_BANKED(OPERATION) \
  OPERATION(sp_usr, SP_usr);       \
  OPERATION(sp_svc, SP_svc);       \
  OPERATION(lr_svc, LR_svc);       \
  OPERATION(spsr_svc, SPSR_svc);   \
  OPERATION(sp_abt, SP_abt);       \
  OPERATION(lr_abt, LR_abt);       \
  OPERATION(spsr_abt, SPSR_abt);   \
  OPERATION(sp_und, SP_und);       \
  OPERATION(lr_und, LR_und);       \
  OPERATION(spsr_und, SPSR_und);   \
  OPERATION(sp_irq, SP_irq);       \
  OPERATION(lr_irq, LR_irq);       \
  OPERATION(spsr_irq, SPSR_irq);   \
  OPERATION(r8_fiq, R8_fiq);       \
  OPERATION(r9_fiq, R9_fiq);       \
  OPERATION(r10_fiq, R10_fiq);     \
  OPERATION(r11_fiq, R11_fiq);     \
  OPERATION(r12_fiq, R12_fiq);     \
  OPERATION(sp_fiq, SP_fiq);       \
  OPERATION(lr_fiq, LR_fiq);       \
  OPERATION(spsr_fiq, SPSR_fiq)

void read(BankedRegisters& registers) {
  FOR_EACH_BANKED(READ_BANKED);
}
void write(const BankedRegisters& registers) {
  FOR_EACH_BANKED(WRITE_BANKED);
}

#define READ_SYSTEM(field, name) registers.field = name::read()
#define WRITE_SYSTEM(field, name) name::write(registers.field)
#define FOR_EACH_SYSTEM(OPERATION)   \
  OPERATION(ttbr0, TTBR0);           \
  OPERATION(ttbr1, TTBR1);           \
  OPERATION(par, PAR);               \
  OPERATION(csselr, CSSELR);         \
  OPERATION(sctlr, SCTLR);           \
  OPERATION(cpacr, CPACR);           \
  OPERATION(ttbcr, TTBCR);           \
  OPERATION(dacr, DACR);             \
  OPERATION(dfsr, DFSR);             \
  OPERATION(ifsr, IFSR);             \
  OPERATION(adfsr, ADFSR);           \
  OPERATION(aifsr, AIFSR);           \
  OPERATION(dfar, DFAR);             \
  OPERATION(ifar, IFAR);             \
  OPERATION(prrr, PRRR);             \
  OPERATION(nmrr, NMRR);             \
  OPERATION(amair0, AMAIR0);         \
  OPERATION(amair1, AMAIR1);         \
  OPERATION(vbar, VBAR);             \
  OPERATION(fcseidr, FCSEIDR);       \
  OPERATION(contextidr, CONTEXTIDR); \
  OPERATION(tpidrurw, TPIDRURW);     \
  OPERATION(tpidruro, TPIDRURO);     \
  OPERATION(tpidrprw, TPIDRPRW)
// ThumbEE's, where there is ThumbEE: ARMv8 has none [ARMv7 B4.1.93: ID_PFR0.State3].
#define FOR_EACH_THUMBEE(OPERATION) \
  OPERATION(teecr, TEECR);          \
  OPERATION(teehbr, TEEHBR)

bool has_thumbee() {
  return (ID_PFR0::read() & 0xf000) != 0;
}

void read(SystemRegisters& registers) {
  FOR_EACH_SYSTEM(READ_SYSTEM);
  if (has_thumbee()) {
    FOR_EACH_THUMBEE(READ_SYSTEM);
  }
}
void write(const SystemRegisters& registers) {
  FOR_EACH_SYSTEM(WRITE_SYSTEM);
  if (has_thumbee()) {
    FOR_EACH_THUMBEE(WRITE_SYSTEM);
  }
}

}  // namespace

void BankedRegisters::save() {
  read(*this);
}
void BankedRegisters::restore() const {
  write(*this);
}

void SystemRegisters::save() {
  read(*this);
}
void SystemRegisters::restore() const {
  VMPIDR::write(vmpidr);
  VPIDR::write(MIDR::read());
  write(*this);
  isb();
}

void VirtualTimer::save_and_stop() {
  ctl = CNTV_CTL::read();
  cval = CNTV_CVAL::read();
  cntkctl = CNTKCTL::read();
  CNTV_CTL::write(0);
  isb();
}

void VirtualTimer::restore() const {
  CNTKCTL::write(cntkctl);
  CNTV_CVAL::write(cval);
  isb();
  CNTV_CTL::write(ctl);
}

void FloatingPoint::save() {
  floating_point_save(this);
}
void FloatingPoint::restore() const {
  floating_point_restore(this);
}

}  // namespace cadastre::arch
