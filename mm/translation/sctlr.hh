// Bits of a guest's SCTLR [ARMv7 B4.1.130].
#pragma once

#include <cstdint>

namespace cadastre::sctlr {

inline constexpr std::uint32_t kMmu = 1U << 0;                // M
inline constexpr std::uint32_t kDataCache = 1U << 2;          // C
inline constexpr std::uint32_t kInstructionCache = 1U << 12;  // I
inline constexpr std::uint32_t kHighVectors = 1U << 13;       // V
inline constexpr std::uint32_t kWriteNever = 1U << 19;        // WXN
inline constexpr std::uint32_t kUserWriteNever = 1U << 20;    // UWXN
inline constexpr std::uint32_t kExceptionEndian = 1U << 25;   // EE: of exceptions, and of translation tables
inline constexpr std::uint32_t kTexRemap = 1U << 28;          // TRE
inline constexpr std::uint32_t kAccessFlag = 1U << 29;        // AFE
inline constexpr std::uint32_t kThumbExceptions = 1U << 30;   // TE

// Whether a guest with this SCTLR reads memory past caches: its MMU or its data cache is off [ARMv7 B3.2.1].
[[nodiscard]] constexpr bool caches_off(std::uint32_t value) {
  return (value & (kMmu | kDataCache)) != (kMmu | kDataCache);
}

}  // namespace cadastre::sctlr
