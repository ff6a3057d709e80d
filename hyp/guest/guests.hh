// The guests of this machine, by their numbers.
#pragma once

#include "hyp/config/plan.hh"
#include "hyp/guest/life.hh"

namespace cadastre {

class Vm;

// Begins the life of every guest of a plan that has been checked, which outlives them. What fails later is said, and counts as
// that guest's failure.
void start_guests(const Configuration& configuration, const GuestHost& host);

// The last vCPU of a guest is off its CPU.
void guest_stopped(Vm& vm);

}  // namespace cadastre
