// The system registers of coprocessor 15 (and the HYP-mode ones among them; ThumbEE's of coprocessor 14), each a type with `read` and
// `write` [ARMv7 B3.17, table B3-42]. Reads are volatile where the hardware changes the value behind our
// back.
#pragma once

#include <cstdint>

namespace cadastre::arch {

#define CP15_32(name, op1, crn, crm, op2)                                                         \
  struct name {                                                                                   \
    [[gnu::always_inline]] static std::uint32_t read() {                                          \
      std::uint32_t value;                                                                        \
      asm volatile("mrc p15, " #op1 ", %0, " #crn ", " #crm ", " #op2 : "=r"(value));             \
      return value;                                                                               \
    }                                                                                             \
    [[gnu::always_inline]] static void write(std::uint32_t value) {                               \
      asm volatile("mcr p15, " #op1 ", %0, " #crn ", " #crm ", " #op2 : : "r"(value) : "memory"); \
    }                                                                                             \
  }
#define CP14_32(name, op1, crn, crm, op2)                                                         \
  struct name {                                                                                   \
    [[gnu::always_inline]] static std::uint32_t read() {                                          \
      std::uint32_t value;                                                                        \
      asm volatile("mrc p14, " #op1 ", %0, " #crn ", " #crm ", " #op2 : "=r"(value));             \
      return value;                                                                               \
    }                                                                                             \
    [[gnu::always_inline]] static void write(std::uint32_t value) {                               \
      asm volatile("mcr p14, " #op1 ", %0, " #crn ", " #crm ", " #op2 : : "r"(value) : "memory"); \
    }                                                                                             \
  }
#define CP15_64(name, op1, crm)                                                      \
  struct name {                                                                      \
    [[gnu::always_inline]] static std::uint64_t read() {                             \
      std::uint64_t value;                                                           \
      asm volatile("mrrc p15, " #op1 ", %Q0, %R0, " #crm : "=r"(value));             \
      return value;                                                                  \
    }                                                                                \
    [[gnu::always_inline]] static void write(std::uint64_t value) {                  \
      asm volatile("mcrr p15, " #op1 ", %Q0, %R0, " #crm : : "r"(value) : "memory"); \
    }                                                                                \
  }

// Identification.
CP15_32(MIDR, 0, c0, c0, 0);
CP15_32(CTR, 0, c0, c0, 1);
CP15_32(MPIDR, 0, c0, c0, 5);
CP15_32(ID_PFR0, 0, c0, c1, 0);
CP15_32(ID_PFR1, 0, c0, c1, 1);
CP15_32(CCSIDR, 1, c0, c0, 0);
CP15_32(CLIDR, 1, c0, c0, 1);
CP15_32(CSSELR, 2, c0, c0, 0);

// HYP's own.
CP15_32(VPIDR, 4, c0, c0, 0);
CP15_32(VMPIDR, 4, c0, c0, 5);
CP15_32(HSCTLR, 4, c1, c0, 0);
CP15_32(HACTLR, 4, c1, c0, 1);
CP15_32(HCR, 4, c1, c1, 0);
CP15_32(HDCR, 4, c1, c1, 1);
CP15_32(HCPTR, 4, c1, c1, 2);
CP15_32(HSTR, 4, c1, c1, 3);
CP15_32(HTCR, 4, c2, c0, 2);
CP15_32(VTCR, 4, c2, c1, 2);
CP15_64(HTTBR, 4, c2);
CP15_64(VTTBR, 6, c2);
CP15_32(HSR, 4, c5, c2, 0);
CP15_32(HDFAR, 4, c6, c0, 0);
CP15_32(HIFAR, 4, c6, c0, 2);
CP15_32(HPFAR, 4, c6, c0, 4);
CP15_32(HMAIR0, 4, c10, c2, 0);
CP15_32(HMAIR1, 4, c10, c2, 1);
CP15_32(HVBAR, 4, c12, c0, 0);
CP15_32(HTPIDR, 4, c13, c0, 2);

// What a guest owns and the world switch carries.
CP15_32(SCTLR, 0, c1, c0, 0);
CP15_32(ACTLR, 0, c1, c0, 1);
CP15_32(CPACR, 0, c1, c0, 2);
CP15_64(TTBR0, 0, c2);
CP15_64(TTBR1, 1, c2);
CP15_32(TTBCR, 0, c2, c0, 2);
CP15_32(DACR, 0, c3, c0, 0);
CP15_32(DFSR, 0, c5, c0, 0);
CP15_32(IFSR, 0, c5, c0, 1);
CP15_32(ADFSR, 0, c5, c1, 0);
CP15_32(AIFSR, 0, c5, c1, 1);
CP15_32(DFAR, 0, c6, c0, 0);
CP15_32(IFAR, 0, c6, c0, 2);
CP15_64(PAR, 0, c7);
CP15_32(PRRR, 0, c10, c2, 0);  // MAIR0 with long descriptors
CP15_32(NMRR, 0, c10, c2, 1);  // MAIR1
CP15_32(AMAIR0, 0, c10, c3, 0);
CP15_32(AMAIR1, 0, c10, c3, 1);
CP15_32(VBAR, 0, c12, c0, 0);
CP15_32(FCSEIDR, 0, c13, c0, 0);
CP15_32(CONTEXTIDR, 0, c13, c0, 1);
CP15_32(TPIDRURW, 0, c13, c0, 2);
CP15_32(TPIDRURO, 0, c13, c0, 3);
CP15_32(TPIDRPRW, 0, c13, c0, 4);

// ThumbEE, which Cortex-A7 and A15 have [ARMv7 A2.10].
CP14_32(TEECR, 6, c0, c0, 0);
CP14_32(TEEHBR, 6, c1, c0, 0);

// Address translation [ARMv7 B3.12]: write an address, read PAR.
CP15_32(ATS12NSOPR, 0, c7, c8, 4);
CP15_32(ATS12NSOPW, 0, c7, c8, 5);
CP15_32(ATS12NSOUR, 0, c7, c8, 6);
CP15_32(ATS12NSOUW, 0, c7, c8, 7);
CP15_32(ATS1HR, 4, c7, c8, 0);
CP15_32(ATS1HW, 4, c7, c8, 1);

// Caches and TLBs [ARMv7 B4.2].
CP15_32(ICIALLUIS, 0, c7, c1, 0);
CP15_32(ICIALLU, 0, c7, c5, 0);
CP15_32(DCCMVAC, 0, c7, c10, 1);
CP15_32(DCCSW, 0, c7, c10, 2);
CP15_32(DCCMVAU, 0, c7, c11, 1);
CP15_32(DCCIMVAC, 0, c7, c14, 1);
CP15_32(TLBIALL, 0, c8, c7, 0);
CP15_32(TLBIMVAA, 0, c8, c7, 3);
CP15_32(TLBIALLIS, 0, c8, c3, 0);
CP15_32(TLBIALLHIS, 4, c8, c3, 0);
CP15_32(TLBIMVAHIS, 4, c8, c3, 1);
CP15_32(TLBIALLNSNHIS, 4, c8, c3, 4);
CP15_32(TLBIALLH, 4, c8, c7, 0);
CP15_32(TLBIMVAH, 4, c8, c7, 1);
CP15_32(TLBIALLNSNH, 4, c8, c7, 4);

// Generic timer [ARMv7 B8.2].
CP15_32(CNTFRQ, 0, c14, c0, 0);
CP15_64(CNTPCT, 0, c14);
CP15_64(CNTVCT, 1, c14);
CP15_32(CNTKCTL, 0, c14, c1, 0);
CP15_32(CNTV_CTL, 0, c14, c3, 1);
CP15_64(CNTV_CVAL, 3, c14);
CP15_64(CNTVOFF, 4, c14);
CP15_32(CNTHCTL, 4, c14, c1, 0);
CP15_32(CNTHP_CTL, 4, c14, c2, 1);
CP15_64(CNTHP_CVAL, 6, c14);

// Performance monitors [ARMv7 C12]: counter 0 counts instructions since reset (entry.S).
CP15_32(PMCNTENSET, 0, c9, c12, 1);
CP15_32(PMSELR, 0, c9, c12, 5);
CP15_32(PMXEVTYPER, 0, c9, c13, 1);
CP15_32(PMXEVCNTR, 0, c9, c13, 2);

#undef CP15_32
#undef CP14_32
#undef CP15_64

}  // namespace cadastre::arch
