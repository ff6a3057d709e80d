// The host firmware's PSCI, through the conduit that its DTB names [PSCI 5.1].
#pragma once

#include <cstdint>

namespace cadastre {

enum class PsciConduit : std::uint8_t { kSmc, kHvc };

inline constexpr std::uint32_t kPsciVersion = 0x84000000;
inline constexpr std::uint32_t kPsciCpuOff = 0x84000002;
inline constexpr std::uint32_t kPsciCpuOn = 0x84000003;
inline constexpr std::uint32_t kPsciSystemOff = 0x84000008;
inline constexpr std::uint32_t kPsciSystemReset = 0x84000009;

// Returns what firmware answers: a value, or a negative error code [PSCI 5.2.2].
std::int32_t psci_call(PsciConduit conduit, std::uint32_t function, std::uint32_t argument1 = 0,
                       std::uint32_t argument2 = 0, std::uint32_t argument3 = 0);

}  // namespace cadastre
