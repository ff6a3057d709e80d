// When the machine ends: with its last guest. The books are closed, and the power is off.
#pragma once

namespace cadastre {

// So many guests there will be; before the first of them.
void expect_guests(unsigned count);
// One less, for good. Returns if it was not the last.
void guest_has_ended();

}  // namespace cadastre
