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

}  // namespace cadastre::arch
