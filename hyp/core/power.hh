// The end of the machine, by the host's firmware.
#pragma once

#include "platform/dtb/host.hh"

namespace cadastre {

// What the host's DTB says of it. Until then there is none.
void set_firmware(const HostPsci& firmware);

// Says `machine: off` and ends the machine; or `machine: stays on`, where firmware cannot, and waits for ever. It is the last
// line of every run that the hypervisor ends.
[[noreturn]] void power_off();

}  // namespace cadastre
