// Which vCPU a host CPU runs. Each vCPU belongs to one CPU for its life, and has a slot there; a CPU shares its time among those
// that want it, and the jobs of its guests (hyp/core/run_queue.hh), and sleeps when there is nothing to do.
//
// A CPU looks only at vCPUs that something has happened to: those that have been noted for it by look_at(), those whose timer is
// due, and the one that it ran.
#pragma once

namespace cadastre {

struct Vcpu;

// Gives the vCPU, which is off, to its CPU, which looks at it from look_at() on. From any CPU.
void add_vcpu(Vcpu& vcpu);

// Its CPU looks at it soon: it has been started, has to stop, or an interrupt is pending that ends its sleep. From any CPU; not
// twice for what it has not looked at yet.
void look_at(const Vcpu& vcpu);
// The same by its CPU and its slot, whether or not there still is a vCPU.
void look_at(unsigned cpu, unsigned slot);

// This CPU leaves the guest, or does not enter it, and looks again at what there is to run.
void request_reschedule();

// This CPU's life from now on.
[[noreturn]] void run_vcpus();

}  // namespace cadastre
