// `resetter [touch=MIB]`: resets the machine as soon as it has touched each block of 2 MiB in so many MiB of its RAM (none).
// Whoever counts resets (reset-limit=) ends it.
#include <algorithm>

#include "guest/common/machine.hh"
#include "guest/common/memory.hh"
#include "guest/common/print.hh"
#include "guest/hostile/role.hh"

namespace cadastre::guest {

void reset() {
  constexpr std::uint64_t kBlock = 0x20'0000;
  const std::uint64_t end = std::min(ram_end(), machine.ram_base + (std::uint64_t{number_of("touch", 0)} << 20));
  for (std::uint64_t block = untouched_ram(); block < end; block += kBlock) {
    *words_at(static_cast<std::uint32_t>(block)) = 1;
  }
  system_reset();
  fail("SYSTEM_RESET came back");
}

}  // namespace cadastre::guest
