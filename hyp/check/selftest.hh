// `selftest=NAME` on the command line: parts of the hypervisor under test on the real machine, before there is any guest.
#pragma once

namespace cadastre {

// Each says what it did and with which seed (`seed=N` on the command line sets it); returns whether all was well.

// `mm`: a million random operations on all allocators, from all CPUs at once, then the audit.
[[nodiscard]] bool selftest_memory(unsigned cpus, unsigned seed);
// `walk`: 100,000 random trees of guest tables, each on a stage 2 of its own: what GuestWalk makes of addresses is what this
// CPU does; and HYP's own tables (docs/translation.md).
[[nodiscard]] bool selftest_walk(unsigned cpus, unsigned seed);

}  // namespace cadastre
