// Where a guest finds what: a subset of QEMU's `virt` machine, so that what boots there boots here.
#pragma once

#include <cstdint>

#include "mm/base/address.hh"

namespace cadastre::guest_map {

inline constexpr IpaAddr kGicDistributor(0x0800'0000);
inline constexpr IpaAddr kGicCpuInterface(0x0801'0000);  // the hardware's GICV
inline constexpr std::uint64_t kGicCpuInterfaceSize = 0x2000;
inline constexpr IpaAddr kUart(0x0900'0000);
inline constexpr IpaAddr kRam(0x4000'0000);

inline constexpr unsigned kUartInterrupt = 32 + 1;  // SPI 1
inline constexpr unsigned kVirtualTimerInterrupt = 27;
inline constexpr unsigned kPhysicalTimerInterrupt = 30;

}  // namespace cadastre::guest_map
