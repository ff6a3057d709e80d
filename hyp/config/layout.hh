// Where a guest's kernel, initrd and device tree go in its RAM.
#pragma once

#include "hyp/config/image.hh"
#include "hyp/config/plan.hh"

namespace cadastre {

// What the generated device tree may take.
inline constexpr std::uint64_t kGuestDtbRoom = 16 << 10;

// Fills `plan.layout` for an image of this kind in `plan.memory` bytes of RAM. False when it does not fit,
// with the reason.
[[nodiscard]] bool place_guest(GuestPlan& plan, const Image& image, Refusals& refusals);

}  // namespace cadastre
