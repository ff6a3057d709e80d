#include "arch/armv7/cache.hh"

#include <cstdint>
#include <cstring>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"

// string.S
extern "C" void zero_and_clean(void* begin, std::size_t size);

namespace cadastre::arch {
namespace {

// What zero_and_clean counts on.
constexpr std::size_t kCleanedAtOnce = 64;

template <class Operation>
void for_each_line(const void* begin, std::size_t size) {
  const std::size_t line = data_cache_line();
  const auto start = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t end = start + size;
  std::uintptr_t at = start & ~(line - 1);
  // A page, or a block of 2 MiB, is many: the counting should not cost as much as the work.
  for (; end - at >= 8 * line && at < end; at += 8 * line) {
#pragma clang loop unroll(full)
    for (unsigned i = 0; i < 8; ++i) Operation::write(at + i * line);
  }
  for (; at < end; at += line) Operation::write(at);
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

void scrub(void* begin, std::size_t size) {
  if (data_cache_line() >= kCleanedAtOnce) [[likely]] {
    zero_and_clean(begin, size);
    dsb();
  } else {
    std::memset(begin, 0, size);
    clean_and_invalidate_data_cache(begin, size);
  }
}

void invalidate_instruction_caches() {
  ICIALLUIS::write(0);
  dsb_ish();
  isb();
}

}  // namespace cadastre::arch
