#include "arch/armv7/cache.hh"

#include <cstdint>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"

namespace cadastre::arch {
namespace {

template <class Operation>
void for_each_line(const void* begin, std::size_t size) {
  const std::size_t line = data_cache_line();
  const auto start = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t end = start + size;
  for (std::uintptr_t at = start & ~(line - 1); at < end; at += line) Operation::write(at);
  dsb();
}

}  // namespace

std::size_t data_cache_line() {
  return std::size_t{4} << ((CTR::read() >> 16) & 0xf);
}

void clean_data_cache(const void* begin, std::size_t size) {
  for_each_line<DCCMVAC>(begin, size);
}

void clean_and_invalidate_data_cache(const void* begin, std::size_t size) {
  for_each_line<DCCIMVAC>(begin, size);
}

void invalidate_instruction_caches() {
  ICIALLUIS::write(0);
  dsb_ish();
  isb();
}

}  // namespace cadastre::arch
