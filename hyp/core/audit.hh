// The books, closed: every frame against the allocators, and nothing left of the guests.
#pragma once

#include <cstdint>

namespace cadastre {

// How many frames the hypervisor itself holds, before there is any guest.
void open_books();

// Says `audit: ok ...` with the counts, or `audit: failed: ...` with what does not agree; returns which. No guest is left.
[[nodiscard]] bool audit();

}  // namespace cadastre
