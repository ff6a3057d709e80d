// `second-cpu`, with two CPUs: changes registers on the second, which goes off and on again: it is as after power-on, and the
// first CPU's registers are its own.
#include <cstdint>

#include "guest/common/cpu.hh"
#include "guest/common/machine.hh"
#include "guest/common/memory.hh"
#include "guest/common/print.hh"
#include "guest/hostile/role.hh"

extern "C" const char second_start;

namespace cadastre::guest {
namespace {

// What second_start leaves behind.
struct Registers {
  std::uint32_t starts;
  std::uint32_t sctlr;
  std::uint32_t vbar;
  std::uint32_t fcseidr;
};

std::uint32_t fcseidr() {
  std::uint32_t value;
  asm volatile("mrc p15, 0, %0, c13, c0, 0" : "=r"(value));
  return value;
}

}  // namespace

void second_cpu() {
  // The last MiB of RAM; that CPU's caches are off.
  const auto at = static_cast<std::uint32_t>(machine.ram_base + machine.ram_size - kSection);
  clean_caches();
  map_section(at, Kind::kDevice);
  volatile auto* registers = reinterpret_cast<volatile Registers*>(at);
  for (std::uint32_t starts = 1; starts <= 3; ++starts) {
    // It can be started when it has gone off.
    const Stretch patience = Stretch::of_seconds(2);
    bool started = false;
    while (!started || registers->starts != starts) {
      if (!started) started = start_cpu(1, reinterpret_cast<std::uint32_t>(&second_start), at) == 0;
      if (patience.over()) fail("the second CPU does not start");
    }
    constexpr std::uint32_t kOn = 0x1805;  // V, I, C, M
    if ((registers->sctlr & kOn) != 0) fail("the second CPU starts with SCTLR ", Hex{registers->sctlr});
    if (registers->vbar != 0) fail("the second CPU starts with VBAR ", Hex{registers->vbar});
    if (registers->fcseidr != 0) fail("the second CPU starts with FCSEIDR ", Hex{registers->fcseidr});
    if (fcseidr() != 0) fail("the second CPU's FCSEIDR is the first one's: ", Hex{fcseidr()});
  }
  say("the second CPU starts as after power-on each time");
}

}  // namespace cadastre::guest
