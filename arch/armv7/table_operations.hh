// What every kind of translation table on this CPU shares: single-copy atomic entries, and walks that see the caches.
#pragma once

#include <cstdint>

#include "arch/armv7/barrier.hh"
#include "mm/translation/descriptor.hh"

namespace cadastre::arch {

struct TableOperations {
  // LDRD and STRD of an aligned pair are single-copy atomic with LPAE [ARMv7 A3.5.3].
  [[gnu::always_inline]] static Entry load(const Entry* entry) {
    Entry value;
    asm volatile("ldrd %Q0, %R0, %1" : "=r"(value) : "m"(*entry));
    return value;
  }
  [[gnu::always_inline]] static void store(Entry* entry, Entry value) {
    asm volatile("strd %Q1, %R1, %0" : "=m"(*entry) : "r"(value));
  }
  // Walks are inner shareable and cacheable (kHtcr, kVtcr) on CPUs with the Multiprocessing Extensions [ARMv7 B3.10.1].
  static void clean(const Entry* /*entry*/, std::uint64_t /*count*/) {}
};

}  // namespace cadastre::arch
