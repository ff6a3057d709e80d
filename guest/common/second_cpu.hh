// A guest's second CPU, on the same tables as the first.
#pragma once

namespace cadastre::guest {

// Has it run `function`, with interrupts masked, and go off when that comes back. False: PSCI says no.
[[nodiscard]] bool run_on_second_cpu(void (*function)());

}  // namespace cadastre::guest
