// Barriers [ARMv7 A3.8.3].
#pragma once

namespace cadastre::arch {

inline void isb() {
  asm volatile("isb" : : : "memory");
}
inline void dsb() {
  asm volatile("dsb sy" : : : "memory");
}
// Enough between CPUs of one inner-shareable domain, which all of ours are in.
inline void dsb_ish() {
  asm volatile("dsb ish" : : : "memory");
}
inline void dmb_ish() {
  asm volatile("dmb ish" : : : "memory");
}
// Sleeps until an interrupt is pending, masked or not [ARMv7 B1.8.14].
inline void wfi() {
  asm volatile("dsb sy\n\twfi" : : : "memory");
}
inline void wfe() {
  asm volatile("wfe" : : : "memory");
}
inline void sev() {
  asm volatile("dsb ish\n\tsev" : : : "memory");
}

}  // namespace cadastre::arch
