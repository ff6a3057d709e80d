// The instructions that this guest needs.
#pragma once

#include <cstdint>

namespace cadastre::guest {

inline void dsb() {
  asm volatile("dsb" ::: "memory");
}
inline void isb() {
  asm volatile("isb" ::: "memory");
}
inline void wait_for_interrupt() {
  asm volatile("dsb\n\twfi" ::: "memory");
}
inline void enable_interrupts() {
  asm volatile("cpsie ai" ::: "memory");
}
inline void disable_interrupts() {
  asm volatile("cpsid i" ::: "memory");
}

// Fault Status and Address Registers [ARMv7 B4.1.52, B4.1.96, B4.1.51].
inline std::uint32_t dfsr() {
  std::uint32_t value;
  asm volatile("mrc p15, 0, %0, c5, c0, 0" : "=r"(value));
  return value;
}
inline std::uint32_t ifsr() {
  std::uint32_t value;
  asm volatile("mrc p15, 0, %0, c5, c0, 1" : "=r"(value));
  return value;
}
inline std::uint32_t dfar() {
  std::uint32_t value;
  asm volatile("mrc p15, 0, %0, c6, c0, 0" : "=r"(value));
  return value;
}

// The virtual timer [ARMv7 B8.1].
inline std::uint32_t timer_frequency() {
  std::uint32_t value;
  asm volatile("mrc p15, 0, %0, c14, c0, 0" : "=r"(value));
  return value;
}
inline std::uint64_t timer_count() {
  std::uint32_t low;
  std::uint32_t high;
  asm volatile("isb\n\tmrrc p15, 1, %0, %1, c14" : "=r"(low), "=r"(high)::"memory");
  return std::uint64_t{high} << 32 | low;
}
// Raises its interrupt in `ticks`, once.
inline void start_timer(std::uint32_t ticks) {
  asm volatile("mcr p15, 0, %0, c14, c3, 0" ::"r"(ticks));     // CNTV_TVAL
  asm volatile("mcr p15, 0, %0, c14, c3, 1\n\tisb" ::"r"(1));  // CNTV_CTL.ENABLE
}
// When it is due.
inline std::uint64_t timer_compare() {
  std::uint32_t low;
  std::uint32_t high;
  asm volatile("mrrc p15, 3, %0, %1, c14" : "=r"(low), "=r"(high));  // CNTV_CVAL
  return std::uint64_t{high} << 32 | low;
}
inline void stop_timer() {
  asm volatile("mcr p15, 0, %0, c14, c3, 1\n\tisb" ::"r"(0));
}

// Caches by set and way [ARMv7 B4.1.19, B4.1.20, B4.2.1].
inline std::uint32_t cache_levels() {
  std::uint32_t value;
  asm volatile("mrc p15, 1, %0, c0, c0, 1" : "=r"(value));  // CLIDR
  return value;
}
inline std::uint32_t cache_size(std::uint32_t level) {
  std::uint32_t value;
  asm volatile("mcr p15, 2, %0, c0, c0, 0\n\tisb" ::"r"(level << 1));  // CSSELR
  asm volatile("mrc p15, 1, %0, c0, c0, 0" : "=r"(value));             // CCSIDR
  return value;
}
inline void clean_and_invalidate_set_way(std::uint32_t operation) {
  asm volatile("mcr p15, 0, %0, c7, c14, 2" ::"r"(operation) : "memory");  // DCCISW
}

// All translations, on all of this guest's CPUs.
inline void invalidate_translations() {
  dsb();
  asm volatile("mcr p15, 0, %0, c8, c3, 0" ::"r"(0) : "memory");  // TLBIALLIS
  dsb();
  isb();
}

// One page's translation is changed or gone [ARMv7 B3.10.1].
inline void invalidate_translation(std::uint32_t address) {
  dsb();
  asm volatile("mcr p15, 0, %0, c8, c7, 1" ::"r"(address & ~0xfffU) : "memory");  // TLBIMVA
  dsb();
  isb();
}

}  // namespace cadastre::guest

extern "C" {
std::uint32_t hypervisor_call(std::uint32_t function, std::uint32_t argument, std::uint32_t second = 0,
                              std::uint32_t third = 0);
std::uint32_t secure_call(std::uint32_t function, std::uint32_t argument);
// Executes what is at `address`, which is no function: what aborts comes back (expect_exception).
void execute(std::uint32_t address);
}
