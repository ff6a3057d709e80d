// CHECK is for broken invariants of the hypervisor itself, never for what a guest or a configuration does.
#pragma once

namespace cadastre {

// Each program supplies its own: the hypervisor reports and stops the machine, a test prints and aborts.
[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace cadastre

#define CHECK(condition)                                        \
  do {                                                          \
    if (!(condition)) [[unlikely]]                              \
      ::cadastre::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)
