// What traps into HYP mode, and what a guest is given [ARMv7 B4.1.64 to B4.1.70].
#pragma once

#include <cstdint>

namespace cadastre::arch {

namespace hcr {
inline constexpr std::uint32_t kStage2 = 1U << 0;                   // VM
inline constexpr std::uint32_t kSetWayIsCleanInvalidate = 1U << 1;  // SWIO
inline constexpr std::uint32_t kProtectedWalk = 1U << 2;            // PTW: no table walk into device memory
inline constexpr std::uint32_t kFiqToHyp = 1U << 3;
inline constexpr std::uint32_t kIrqToHyp = 1U << 4;
inline constexpr std::uint32_t kAbortToHyp = 1U << 5;
inline constexpr std::uint32_t kVirtualAbort = 1U << 8;
inline constexpr std::uint32_t kBroadcast = 1U << 9;               // FB: maintenance reaches all CPUs ...
inline constexpr std::uint32_t kBarrierInnerShareable = 1U << 10;  // ... and barriers too (BSU)
inline constexpr std::uint32_t kTrapWfi = 1U << 13;
inline constexpr std::uint32_t kTrapSmc = 1U << 19;
inline constexpr std::uint32_t kTrapImplementationDefined = 1U << 20;  // TIDCP
inline constexpr std::uint32_t kTrapActlr = 1U << 21;                  // TAC
inline constexpr std::uint32_t kTrapSetWay = 1U << 22;                 // TSW

inline constexpr std::uint32_t kGuest = kStage2 | kSetWayIsCleanInvalidate | kProtectedWalk | kFiqToHyp | kIrqToHyp |
                                        kAbortToHyp | kBroadcast | kBarrierInnerShareable | kTrapWfi | kTrapSmc |
                                        kTrapImplementationDefined | kTrapActlr | kTrapSetWay;
}  // namespace hcr

namespace hdcr {
inline constexpr std::uint32_t kTrapPerformance = (1U << 5) | (1U << 6);          // TPMCR, TPM
inline constexpr std::uint32_t kTrapDebug = (1U << 9) | (1U << 10) | (1U << 11);  // TDA, TDOSA, TDRA
inline constexpr std::uint32_t kCountersMask = 0x1f;                              // HPMN
}  // namespace hdcr

namespace cnthctl {
inline constexpr std::uint32_t kPhysicalCountForPl1 = 1U << 0;  // PL1PCTEN; without PL1PCEN the timer itself traps
}  // namespace cnthctl

}  // namespace cadastre::arch
