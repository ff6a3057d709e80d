// The guests of this machine, by their numbers.
#pragma once

#include "hyp/config/plan.hh"
#include "hyp/guest/life.hh"
#include "platform/dtb/refusals.hh"

namespace cadastre {

class Vm;

// Has what the guests of a checked plan ask for promised to them: a fault in a guest's RAM finds a frame and its tables from then
// on, whatever others do. False, with the reason, when it is not there. The plan outlives the guests.
[[nodiscard]] bool book_guests(const Configuration& configuration, const GuestHost& host, Refusals& refusals);
// Begins the life of every guest. What fails later is said, and counts as that guest's failure.
void start_guests(const Configuration& configuration);

// The last vCPU of a guest is off its CPU.
void guest_stopped(Vm& vm);

}  // namespace cadastre
