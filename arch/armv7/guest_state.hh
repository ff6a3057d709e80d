// What of a vCPU's state lives in the hardware while it runs and is carried only when another vCPU takes the
// CPU. The general registers (GuestFrame) are apart: every exit stores them.
#pragma once

#include <cstdint>

namespace cadastre::arch {

// Registers with a copy for each mode [ARMv7 B1.3.2].
struct BankedRegisters {
  std::uint32_t sp_usr = 0;
  std::uint32_t sp_svc = 0, lr_svc = 0, spsr_svc = 0;
  std::uint32_t sp_abt = 0, lr_abt = 0, spsr_abt = 0;
  std::uint32_t sp_und = 0, lr_und = 0, spsr_und = 0;
  std::uint32_t sp_irq = 0, lr_irq = 0, spsr_irq = 0;
  std::uint32_t r8_fiq = 0, r9_fiq = 0, r10_fiq = 0, r11_fiq = 0, r12_fiq = 0;
  std::uint32_t sp_fiq = 0, lr_fiq = 0, spsr_fiq = 0;

  void save();
  void restore() const;
};

// cp15 as PL1 sees it. The initial values are those after reset [ARMv7 B4.1]; SCTLR has its RES1 bits,
// everything off.
struct SystemRegisters {
  static constexpr std::uint32_t kSctlrAtReset = 0x00c50078;

  std::uint64_t ttbr0 = 0, ttbr1 = 0, par = 0;
  std::uint32_t vmpidr = 0;
  std::uint32_t csselr = 0;
  std::uint32_t sctlr = kSctlrAtReset, cpacr = 0;
  std::uint32_t ttbcr = 0, dacr = 0;
  std::uint32_t dfsr = 0, ifsr = 0, adfsr = 0, aifsr = 0, dfar = 0, ifar = 0;
  std::uint32_t prrr = 0x00098aa4, nmrr = 0x44e048e0;  // Cortex-A15 TRM 4.2.28, 4.2.29
  std::uint32_t amair0 = 0, amair1 = 0;
  std::uint32_t vbar = 0;
  std::uint32_t fcseidr = 0;  // moves virtual addresses below 32 MiB, where that is implemented
  std::uint32_t contextidr = 0, tpidrurw = 0, tpidruro = 0, tpidrprw = 0;
  std::uint32_t teecr = 0, teehbr = 0;

  void save();
  void restore() const;
};

// The virtual timer's comparator. Its count is the physical one [ARMv7 B8.1.2].
struct VirtualTimer {
  std::uint64_t cval = 0;
  std::uint32_t ctl = 0;
  std::uint32_t cntkctl = 0;

  // Stops the hardware's timer after saving: nobody's interrupt may come while nobody's vCPU is loaded.
  void save_and_stop();
  void restore() const;
};

// VFPv4 and Advanced SIMD with 32 double registers, as Cortex-A7 and A15 have them.
struct FloatingPoint {
  std::uint64_t d[32] = {};
  std::uint32_t fpscr = 0;
  std::uint32_t fpexc = 0;

  void save();
  void restore() const;
};

}  // namespace cadastre::arch
