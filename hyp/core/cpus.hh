// The machine's CPUs.
#pragma once

#include "mm/base/address.hh"
#include "platform/dtb/host.hh"

namespace cadastre {

// This CPU is the one that boots; its number is its place in the DTB.
void init_boot_cpu(const HostDescription& host);

// Starts the others with PSCI and waits until they run. Returns how many CPUs there are then: one that firmware does not
// start is said and left out, with those after it. `image`: where the hypervisor is.
[[nodiscard]] unsigned start_secondary_cpus(const HostDescription& host, PhysAddr image);

// Whether all CPUs are asked to give up the pages on their lists when somebody wants a range of frames. From the time when
// the others are up; not while one of them is in a call that waits for it.
void let_page_lists_drain(bool drain);

}  // namespace cadastre
