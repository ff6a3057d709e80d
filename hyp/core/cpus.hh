// The machine's CPUs.
#pragma once

#include "mm/base/address.hh"
#include "platform/dtb/host.hh"

namespace cadastre {

// This CPU is the one that boots: CPU 0, and the first in `host` from now on.
void init_boot_cpu(HostDescription& host);

// Starts the others with PSCI and waits until they run. Returns how many CPUs there are then, numbered as they came: those that
// firmware does not start, or that are of another kind than this one, are said and left out. `image`: where the hypervisor is.
[[nodiscard]] unsigned start_secondary_cpus(const HostDescription& host, PhysAddr image);

// Whether all CPUs are asked to give up the pages on their lists when somebody wants a range of frames. From the time when
// the others are up; not while one of them is in a call that waits for it.
void let_page_lists_drain(bool drain);

}  // namespace cadastre
