#include "hyp/guest/instruction.hh"

#include "hyp/emulate/condition.hh"
#include "hyp/guest/vcpu.hh"

namespace cadastre {

bool condition_holds(const Vcpu& vcpu, arch::Syndrome syndrome) {
  const std::uint32_t cpsr = vcpu.frame.cpsr;
  return syndrome.condition_valid() ? condition_passes(syndrome.condition(), cpsr) : it_passes(cpsr);
}

void skip_instruction(Vcpu& vcpu, arch::Syndrome syndrome) {
  vcpu.frame.pc += syndrome.instruction_length();
  vcpu.frame.cpsr = after_instruction(vcpu.frame.cpsr);
}

}  // namespace cadastre
