// The two things that an image adds to what all guests here have in common, which starts it: MMU and caches on, RAM and devices
// mapped, `machine` filled in; exceptions that nobody expects are failures.
#pragma once

#include <string_view>

namespace cadastre::guest {

// Each line on the console begins with it.
extern const std::string_view guest_name;

// Interrupts are masked, the GIC is as after power-on.
void run_guest();

}  // namespace cadastre::guest
