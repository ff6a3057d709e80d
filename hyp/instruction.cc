#include "hyp/instruction.hh"

#include <cstdint>

#include "arch/armv7/psr.hh"
#include "hyp/vcpu.hh"

namespace cadastre {
namespace {

namespace psr = arch::psr;

// IT[7:0] is CPSR[15:10] and CPSR[26:25] [ARMv7 B1.3.3].
std::uint32_t it_state(std::uint32_t cpsr) {
  return ((cpsr >> 8) & 0xfc) | ((cpsr >> 25) & 0x3);
}
std::uint32_t with_it_state(std::uint32_t cpsr, std::uint32_t it) {
  return (cpsr & ~(psr::kItHigh | psr::kItLow)) | ((it & 0xfc) << 8) | ((it & 0x3) << 25);
}

// [ARMv7 A8.3.1]
bool passes(unsigned condition, std::uint32_t cpsr) {
  const bool n = (cpsr >> 31) != 0;
  const bool z = ((cpsr >> 30) & 1) != 0;
  const bool c = ((cpsr >> 29) & 1) != 0;
  const bool v = ((cpsr >> 28) & 1) != 0;
  bool result = true;
  switch (condition >> 1) {
    case 0:
      result = z;
      break;
    case 1:
      result = c;
      break;
    case 2:
      result = n;
      break;
    case 3:
      result = v;
      break;
    case 4:
      result = c && !z;
      break;
    case 5:
      result = n == v;
      break;
    case 6:
      result = n == v && !z;
      break;
    default:
      return true;
  }
  return (condition & 1) != 0 ? !result : result;
}

}  // namespace

bool condition_holds(const Vcpu& vcpu, arch::Syndrome syndrome) {
  const std::uint32_t cpsr = vcpu.frame.cpsr;
  if (syndrome.condition_valid()) return passes(syndrome.condition(), cpsr);
  // Thumb: the condition is the IT block's.
  const std::uint32_t it = it_state(cpsr);
  return it == 0 || passes(it >> 4, cpsr);
}

void skip_instruction(Vcpu& vcpu, arch::Syndrome syndrome) {
  vcpu.frame.pc += syndrome.instruction_length();
  const std::uint32_t it = it_state(vcpu.frame.cpsr);
  if (it == 0) return;
  // ITAdvance [ARMv7 A2.5.2]
  const std::uint32_t next = (it & 7) == 0 ? 0 : (it & 0xe0) | ((it << 1) & 0x1f);
  vcpu.frame.cpsr = with_it_state(vcpu.frame.cpsr, next);
}

}  // namespace cadastre
