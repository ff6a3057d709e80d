// `own-cost=FROM-UNTIL` on the command line: how many instructions the hypervisor itself executes on the first CPU in that time,
// in seconds since the machine began. With QEMU's -icount, where instructions are counted.
#pragma once

#include "hyp/config/command_line.hh"

namespace cadastre {

// Prints `own cost: N instructions from second FROM to UNTIL` when that is over, if the machine still runs.
void measure_own_cost(const Period& period);

}  // namespace cadastre
