// Conditions, and the state of an IT block in CPSR [ARMv7 A8.3, A2.5.2, B1.3.3].
#pragma once

#include <cstdint>

#include "arch/armv7/psr.hh"

namespace cadastre {

// Whether a condition, four bits, holds [ARMv7 A8.3.1].
[[nodiscard]] constexpr bool condition_passes(unsigned condition, std::uint32_t cpsr) {
  const bool n = (cpsr >> 31) != 0;
  const bool z = ((cpsr >> 30) & 1) != 0;
  const bool c = ((cpsr >> 29) & 1) != 0;
  const bool v = ((cpsr >> 28) & 1) != 0;
  bool result = true;
  switch (condition >> 1) {
    case 0:
      result = z;
      break;
    case 1:
      result = c;
      break;
    case 2:
      result = n;
      break;
    case 3:
      result = v;
      break;
    case 4:
      result = c && !z;
      break;
    case 5:
      result = n == v;
      break;
    case 6:
      result = n == v && !z;
      break;
    default:
      return true;
  }
  return (condition & 1) != 0 ? !result : result;
}

// IT[7:0] is CPSR[15:10] and CPSR[26:25]; 0 outside of an IT block.
[[nodiscard]] constexpr std::uint32_t it_state(std::uint32_t cpsr) {
  return ((cpsr >> 8) & 0xfc) | ((cpsr >> 25) & 0x3);
}
[[nodiscard]] constexpr std::uint32_t with_it_state(std::uint32_t cpsr, std::uint32_t it) {
  return (cpsr & ~(arch::psr::kItHigh | arch::psr::kItLow)) | ((it & 0xfc) << 8) | ((it & 0x3) << 25);
}

// The condition of a Thumb instruction is its IT block's.
[[nodiscard]] constexpr bool it_passes(std::uint32_t cpsr) {
  const std::uint32_t it = it_state(cpsr);
  return it == 0 || condition_passes(it >> 4, cpsr);
}
// CPSR behind an instruction: ITAdvance [ARMv7 A2.5.2].
[[nodiscard]] constexpr std::uint32_t after_instruction(std::uint32_t cpsr) {
  const std::uint32_t it = it_state(cpsr);
  if (it == 0) return cpsr;
  return with_it_state(cpsr, (it & 7) == 0 ? 0 : (it & 0xe0) | ((it << 1) & 0x1f));
}

}  // namespace cadastre
