// A guest's registers by number, as its current mode sees them [ARMv7 B1.3.2].
#pragma once

#include <cstdint>

namespace cadastre {

struct Vcpu;

// `number` in [0, 14]. The vCPU is loaded: other modes' registers are in the hardware.
[[nodiscard]] std::uint32_t guest_register(const Vcpu& vcpu, unsigned number);
void set_guest_register(Vcpu& vcpu, unsigned number, std::uint32_t value);

}  // namespace cadastre
