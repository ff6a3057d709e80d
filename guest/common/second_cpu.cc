#include "guest/common/second_cpu.hh"

#include <cstdint>

#include "guest/common/machine.hh"
#include "guest/common/memory.hh"

extern "C" const char second_entry;

namespace cadastre::guest {

bool run_on_second_cpu(void (*function)()) {
  clean_caches();  // its own are off when it starts
  return start_cpu(1, reinterpret_cast<std::uint32_t>(&second_entry), reinterpret_cast<std::uint32_t>(function)) == 0;
}

}  // namespace cadastre::guest
