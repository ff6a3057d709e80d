// The guest's instruction that trapped: whether it was to be executed at all, and going on behind it.
#pragma once

#include "arch/armv7/hsr.hh"

namespace cadastre {

struct Vcpu;

// Whether the condition of a trapped instruction holds: a CPU may trap it before it looks [ARMv7 B3.13.6].
[[nodiscard]] bool condition_holds(const Vcpu& vcpu, arch::Syndrome syndrome);

// Goes on behind the instruction, in an IT block with the next condition.
void skip_instruction(Vcpu& vcpu, arch::Syndrome syndrome);

}  // namespace cadastre
