// The running CPU: HTPIDR holds its `Cpu` [ARMv7 B4.1.69].
#pragma once

#include <cstdint>

#include "arch/armv7/cp15.hh"
#include "mm/base/machine.hh"
#include "mm/frames/kmap.hh"

namespace cadastre::arch {

struct Cpu {
  unsigned index = 0;       // [0, kMaxCpus), in the order of the DTB
  std::uint32_t mpidr = 0;  // affinity fields
  KmapStack kmap;           // its windows in use
};

inline void set_this_cpu(Cpu& cpu) {
  HTPIDR::write(reinterpret_cast<std::uintptr_t>(&cpu));
}

[[gnu::always_inline]] inline Cpu& this_cpu() {
  // Not volatile: between two reads in one function it is the same CPU.
  std::uintptr_t pointer;
  asm("mrc p15, 4, %0, c13, c0, 2" : "=r"(pointer));
  return *reinterpret_cast<Cpu*>(pointer);
}

}  // namespace cadastre::arch
