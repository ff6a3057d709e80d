// `selftest=mm` on the command line: the memory manager under load on the real machine.
#pragma once

namespace cadastre {

// A million random operations on all allocators, from all CPUs at once, then the audit. Says what it did and with which seed
// (`seed=N` on the command line sets it); returns whether all was well.
[[nodiscard]] bool selftest_memory(unsigned cpus, unsigned seed);

}  // namespace cadastre
