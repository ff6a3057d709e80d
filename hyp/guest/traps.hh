// What a guest's exits mean, by exception class [ARMv7 B3.13.6].
#pragma once

#include "arch/armv7/guest_frame.h"
#include "arch/armv7/hsr.hh"

namespace cadastre {

struct Vcpu;

// Handles one exit of the loaded vCPU. Afterwards it goes on, or its state says that it does not.
void handle_trap(Vcpu& vcpu);

// The parts, a file each. Each moves the pc on or injects an exception.
void handle_coprocessor(Vcpu& vcpu, arch::Syndrome syndrome);  // traps_cp15.cc
void handle_data_abort(Vcpu& vcpu, arch::Syndrome syndrome);   // traps_abort.cc
void handle_prefetch_abort(Vcpu& vcpu, arch::Syndrome syndrome);
void handle_smccc(Vcpu& vcpu);  // hypercalls.cc
// Does the instruction at pc, which touched a device. False: it is not one that can be done for the guest, and nothing has
// happened.
[[nodiscard]] bool emulate_device_access(Vcpu& vcpu);  // traps_emulate.cc

}  // namespace cadastre
