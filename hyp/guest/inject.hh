// Exceptions that a guest gets from us instead of from its CPU: the architectural answer to what it did
// [ARMv7 B1.8.3, B1.9].
#pragma once

#include "mm/base/access.hh"
#include "mm/base/address.hh"
#include "mm/translation/guest_fault.hh"

namespace cadastre {

struct Vcpu;

// All of these change the vCPU's pc, cpsr and banked registers so that it goes on in its own handler. The vCPU is loaded.

// An instruction that does not exist for it.
void inject_undefined(Vcpu& vcpu);

// The abort that an access to `address` takes, its status in the format that the guest's tables have. What fails in stage 2
// is a synchronous external abort to it: nothing answers there [ARMv7 B3.13.3].
void inject_data_abort(Vcpu& vcpu, GuestVirtAddr address, const GuestFault& fault, Access access);
void inject_prefetch_abort(Vcpu& vcpu, GuestVirtAddr address, const GuestFault& fault);

// An asynchronous external abort, which its CPSR.A may mask; it is taken when that allows [ARMv7 B1.8.11, HCR.VA].
void inject_asynchronous_abort();

}  // namespace cadastre
