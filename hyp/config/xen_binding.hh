// Xen's dom0less binding [Xen 4.17, docs/misc/arm/device-tree/booting.txt]: guests in /chosen, so that a device tree written
// for Xen boots here unchanged.
#pragma once

#include "hyp/config/plan.hh"

namespace cadastre {

// Every child of /chosen that is a "xen,domain". What Xen would give such a guest and is not here is refused by its name.
void read_xen_binding(const DtNode& chosen, Configuration& configuration, Refusals& refusals);

}  // namespace cadastre
