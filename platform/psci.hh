// The host firmware's PSCI, through the conduit that its DTB names [PSCI 5.1].
#pragma once

#include <cstdint>

#include "platform/psci_functions.hh"  // IWYU pragma: export

namespace cadastre {

// Returns what firmware answers: a value, or a negative error code [PSCI 5.2.2].
std::int32_t psci_call(PsciConduit conduit, std::uint32_t function, std::uint32_t argument1 = 0,
                       std::uint32_t argument2 = 0, std::uint32_t argument3 = 0);

}  // namespace cadastre
