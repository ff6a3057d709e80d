// Exceptions that a guest gets from us instead of from its CPU: the architectural answer to what it did
// [ARMv7 B1.8.3, B1.9].
#pragma once

#include "mm/address.hh"

namespace cadastre {

struct Vcpu;

// All of these change the vCPU's pc, cpsr and banked registers so that it goes on in its own handler. The vCPU is loaded.

// An instruction that does not exist for it.
void inject_undefined(Vcpu& vcpu);

// A synchronous external abort: nothing answers at that address [ARMv7 B3.13.3]. `table_walk_level`: 0 for the access
// itself, else the level of the fetch of its own translation tables that failed.
void inject_external_data_abort(Vcpu& vcpu, GuestVirtAddr address, bool is_write, unsigned table_walk_level);
void inject_external_prefetch_abort(Vcpu& vcpu, GuestVirtAddr address, unsigned table_walk_level);

// An asynchronous one, which its CPSR.A may mask; it is taken when that allows [ARMv7 B1.8.11, HCR.VA].
void inject_asynchronous_abort();

}  // namespace cadastre
