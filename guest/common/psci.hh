// PSCI's functions that guests here call, and one that is none [PSCI 5.1].
#pragma once

#include <cstdint>

namespace cadastre::guest::psci {

inline constexpr std::uint32_t kVersion = 0x8400'0000;
inline constexpr std::uint32_t kCpuOn = 0x8400'0003;
inline constexpr std::uint32_t kSystemOff = 0x8400'0008;
inline constexpr std::uint32_t kSystemReset = 0x8400'0009;
inline constexpr std::uint32_t kNoFunction = 0x8400'001f;

}  // namespace cadastre::guest::psci
