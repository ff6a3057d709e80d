// Functions that run on other CPUs: what belongs to a CPU alone (its page lists, its TLB) is only touched there.
#pragma once

namespace cadastre {

// Calls function(argument) on every CPU that is up, on all at once and here too, and returns when all are done. The others
// leave their guests for it. Not while holding a lock that `function`, or a fault of a guest, might want.
void call_on_all_cpus(void (*function)(void* argument), void* argument);

// Runs what others have asked of this CPU. From its run loop, and while it waits for others.
void run_cross_calls();

// This CPU takes part from now on.
void join_cross_calls();

}  // namespace cadastre
