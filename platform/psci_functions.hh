// PSCI's functions, 32-bit calling convention, and its answers [PSCI 5, SMCCC 7].
#pragma once

#include <cstdint>

namespace cadastre {

// How firmware is called. HVC is no way out of HYP mode, where it would only call the hypervisor itself.
enum class PsciConduit : std::uint8_t { kNone, kSmc, kHvc };

}  // namespace cadastre

namespace cadastre::psci {

inline constexpr std::uint32_t kSmcccVersion = 0x8000'0000;  // [SMCCC 7.2]
inline constexpr std::uint32_t kSmcccArchFeatures = 0x8000'0001;
inline constexpr std::uint32_t kVersion = 0x8400'0000;  // [PSCI 5.1]
inline constexpr std::uint32_t kCpuSuspend = 0x8400'0001;
inline constexpr std::uint32_t kCpuOff = 0x8400'0002;
inline constexpr std::uint32_t kCpuOn = 0x8400'0003;
inline constexpr std::uint32_t kAffinityInfo = 0x8400'0004;
inline constexpr std::uint32_t kMigrateInfoType = 0x8400'0006;
inline constexpr std::uint32_t kSystemOff = 0x8400'0008;
inline constexpr std::uint32_t kSystemReset = 0x8400'0009;
inline constexpr std::uint32_t kFeatures = 0x8400'000a;

// Return codes [PSCI 5.2.2].
inline constexpr std::int32_t kSuccess = 0;
inline constexpr std::int32_t kNotSupported = -1;
inline constexpr std::int32_t kInvalidParameters = -2;
inline constexpr std::int32_t kAlreadyOn = -4;
inline constexpr std::int32_t kOnPending = -5;

}  // namespace cadastre::psci
