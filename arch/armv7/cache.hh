// Cache maintenance by address to the point of coherency [ARMv7 B2.2.6]: what a guest whose caches are off
// reads, and what a device without coherency reads, must have left our caches.
#pragma once

#include <cstddef>

namespace cadastre::arch {

// Bytes of the smallest data cache line of the system, from CTR.DminLine [ARMv7 B4.1.42].
std::size_t data_cache_line();

// [begin, begin + size) of HYP's address space; whole lines around it.
void clean_data_cache(const void* begin, std::size_t size);
void clean_and_invalidate_data_cache(const void* begin, std::size_t size);

// Zeroes pages, and cleans and invalidates them; `begin` is a page's first byte, `size` whole pages.
void scrub(void* begin, std::size_t size);

// After code was written for somebody else to run: all instruction caches, inner shareable.
void invalidate_instruction_caches();

}  // namespace cadastre::arch
