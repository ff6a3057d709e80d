// Program status registers [ARMv7 B1.3.3].
#pragma once

#include <cstdint>

namespace cadastre::arch::psr {

inline constexpr std::uint32_t kModeMask = 0x1f;
inline constexpr std::uint32_t kUser = 0x10;
inline constexpr std::uint32_t kFiq = 0x11;
inline constexpr std::uint32_t kIrq = 0x12;
inline constexpr std::uint32_t kSupervisor = 0x13;
inline constexpr std::uint32_t kAbort = 0x17;
inline constexpr std::uint32_t kHyp = 0x1a;
inline constexpr std::uint32_t kUndefined = 0x1b;
inline constexpr std::uint32_t kSystem = 0x1f;

inline constexpr std::uint32_t kThumb = 1U << 5;
inline constexpr std::uint32_t kFiqMask = 1U << 6;
inline constexpr std::uint32_t kIrqMask = 1U << 7;
inline constexpr std::uint32_t kAbortMask = 1U << 8;
inline constexpr std::uint32_t kBigEndian = 1U << 9;
inline constexpr std::uint32_t kItHigh = 0x3fU << 10;  // IT[7:2]
inline constexpr std::uint32_t kJazelle = 1U << 24;
inline constexpr std::uint32_t kItLow = 3U << 25;  // IT[1:0]

}  // namespace cadastre::arch::psr
