#include "hyp/guest/registers.hh"

#include "arch/armv7/psr.hh"
#include "hyp/guest/vcpu.hh"

namespace cadastre {
namespace {

namespace psr = arch::psr;

#define BANKED_READ(name)                         \
  do {                                            \
    asm volatile("mrs %0, " #name : "=r"(value)); \
    return true;                                  \
  } while (false)
#define BANKED_WRITE(name)                            \
  do {                                                \
    asm volatile("msr " #name ", %0" : : "r"(value)); \
    return true;                                      \
  } while (false)
// The register's copy in the hardware: true when there is one for this mode, and the frame's is somebody else's.
#define BANKED_REGISTERS(OPERATION)    \
  switch ((mode << 4) | number) {      \
    case (psr::kUser << 4) | 13:       \
    case (psr::kSystem << 4) | 13:     \
      OPERATION(SP_usr);               \
    case (psr::kSupervisor << 4) | 13: \
      OPERATION(SP_svc);               \
    case (psr::kSupervisor << 4) | 14: \
      OPERATION(LR_svc);               \
    case (psr::kAbort << 4) | 13:      \
      OPERATION(SP_abt);               \
    case (psr::kAbort << 4) | 14:      \
      OPERATION(LR_abt);               \
    case (psr::kUndefined << 4) | 13:  \
      OPERATION(SP_und);               \
    case (psr::kUndefined << 4) | 14:  \
      OPERATION(LR_und);               \
    case (psr::kIrq << 4) | 13:        \
      OPERATION(SP_irq);               \
    case (psr::kIrq << 4) | 14:        \
      OPERATION(LR_irq);               \
    case (psr::kFiq << 4) | 8:         \
      OPERATION(R8_fiq);               \
    case (psr::kFiq << 4) | 9:         \
      OPERATION(R9_fiq);               \
    case (psr::kFiq << 4) | 10:        \
      OPERATION(R10_fiq);              \
    case (psr::kFiq << 4) | 11:        \
      OPERATION(R11_fiq);              \
    case (psr::kFiq << 4) | 12:        \
      OPERATION(R12_fiq);              \
    case (psr::kFiq << 4) | 13:        \
      OPERATION(SP_fiq);               \
    case (psr::kFiq << 4) | 14:        \
      OPERATION(LR_fiq);               \
    default:                           \
      return false;                    \
  }

bool read_banked(std::uint32_t mode, unsigned number, std::uint32_t& value) {
  BANKED_REGISTERS(BANKED_READ)
}
bool write_banked(std::uint32_t mode, unsigned number, std::uint32_t value) {
  BANKED_REGISTERS(BANKED_WRITE)
}

bool may_be_banked(unsigned number) {
  return number >= 8;
}
std::uint32_t mode_of(const Vcpu& vcpu) {
  return vcpu.frame.cpsr & psr::kModeMask;
}

}  // namespace

std::uint32_t guest_register(const Vcpu& vcpu, unsigned number) {
  std::uint32_t value = 0;
  if (may_be_banked(number) && read_banked(mode_of(vcpu), number, value)) return value;
  return number == 14 ? vcpu.frame.lr : number < 13 ? vcpu.frame.r[number] : 0;
}

void set_guest_register(Vcpu& vcpu, unsigned number, std::uint32_t value) {
  if (may_be_banked(number) && write_banked(mode_of(vcpu), number, value)) return;
  if (number == 14) {
    vcpu.frame.lr = value;
  } else if (number < 13) {
    vcpu.frame.r[number] = value;
  }
}

}  // namespace cadastre
