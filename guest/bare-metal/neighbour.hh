// Words on the command line that make of this guest a bad neighbour, or its second CPU one of its first.
#pragma once

namespace cadastre::guest {

// `spin`: never waits, for a second of the machine's time.
void spin();
// `wake`: waits only, for two seconds, with a timer that is always due and that nobody hears.
void wake();
// `second-cpu`: changes registers on the second CPU, which goes off and on again: it is as after power-on, and the first
// CPU's registers are its own.
void check_second_cpu();

}  // namespace cadastre::guest
