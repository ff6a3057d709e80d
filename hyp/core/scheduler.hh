// Which vCPU a host CPU runs. Each vCPU belongs to one CPU for its life; a CPU takes its runnable ones in turn, a time slice
// each, and sleeps when there are none.
#pragma once

namespace cadastre {

struct Vcpu;

// Gives the vCPU, which is off, to its CPU: whoever switches it on kicks that. From any CPU.
void add_vcpu(Vcpu& vcpu);

// This CPU leaves the guest, or does not enter it, and looks again at what there is to run.
void request_reschedule();

// This CPU's life from now on.
[[noreturn]] void run_vcpus();

}  // namespace cadastre
