// Instructions that this CPU has executed, in every mode, where it counts them: QEMU does with -icount, and elsewhere the
// counter stays at 0 [ARMv7 C12.8.2]. With several CPUs QEMU counts those of all.
#pragma once

#include <cstdint>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"

namespace cadastre::arch {

// Counter 0, which entry.S has set to INST_RETIRED. It wraps.
[[nodiscard]] inline std::uint32_t instructions() {
  PMSELR::write(0);
  isb();
  return PMXEVCNTR::read();
}

// Counter 1: those of this CPU in HYP mode alone, from the first call on. It wraps.
inline void count_own_instructions() {
  // P, U, NSH: not in PL1, not in PL0, in HYP; event 0x08, INST_RETIRED [ARMv7 C12.8.2, C12.12.12].
  constexpr std::uint32_t kOwnInstructions = (1U << 31) | (1U << 30) | (1U << 27) | 0x08;
  PMSELR::write(1);
  isb();
  PMXEVTYPER::write(kOwnInstructions);
  PMCNTENSET::write(1U << 1);
  isb();
}
[[nodiscard]] inline std::uint32_t own_instructions() {
  PMSELR::write(1);
  isb();
  return PMXEVCNTR::read();
}

}  // namespace cadastre::arch
