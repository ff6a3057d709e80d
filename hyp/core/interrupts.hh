// The machine's own interrupts: who gets what.
//
//   virtual timer PPI    the loaded vCPU, by a hardware list register
//   HYP timer PPI        the scheduler: a time slice or a sleep has ended
//   GIC maintenance PPI  the vGIC of the loaded vCPU: look at its list registers
//   UART SPI             the console's receive side
//   SGI 0                a kick from another CPU: look at what is to be run
#pragma once

#include "platform/dtb/host.hh"
#include "platform/gic.hh"

namespace cadastre {

struct Vcpu;

extern Gic gic;

// Once; then on each CPU.
void init_interrupts(const HostDescription& host);
void init_cpu_interrupts();

[[nodiscard]] unsigned virtual_timer_interrupt();

// Takes all that is pending. `loaded`: the vCPU whose state is in this CPU's hardware, if any.
void handle_interrupts(Vcpu* loaded);

// Makes another CPU (or this one) look at what there is to run.
void kick_cpu(unsigned cpu);

}  // namespace cadastre
