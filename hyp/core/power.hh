// The end of the machine, by the host's PSCI.
#pragma once

#include "platform/psci.hh"

namespace cadastre {

// The conduit that the host's DTB names; SMC until it is known, as HYP mode needs it [PSCI 5.2.1].
void set_psci_conduit(PsciConduit conduit);
[[nodiscard]] PsciConduit psci_conduit();

// Says `machine: off`, the last line of every run that the hypervisor ends, and ends it.
[[noreturn]] void power_off();

}  // namespace cadastre
