#include "guest/bare-metal/neighbour.hh"

#include <cstdint>

#include "guest/bare-metal/cpu.hh"
#include "guest/bare-metal/machine.hh"
#include "guest/bare-metal/memory.hh"
#include "guest/bare-metal/print.hh"

extern "C" const char second_start;

namespace cadastre::guest {
namespace {

constexpr std::uint32_t kPhysicalTimer = 30;  // a PPI
constexpr std::uint32_t kSeconds = 2;

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

bool over(std::uint64_t start, std::uint32_t seconds) {
  return timer_count() - start > std::uint64_t{seconds} * timer_frequency();
}

// Until the physical timer has run down, or whatever else wakes this CPU up, again and again.
void wait_seconds(std::uint32_t seconds) {
  const std::uint64_t start = timer_count();
  asm volatile("mcr p15, 0, %0, c14, c2, 0" ::"r"(seconds * timer_frequency() + 1));  // CNTP_TVAL
  asm volatile("mcr p15, 0, %0, c14, c2, 1\n\tisb" ::"r"(1));                         // CNTP_CTL.ENABLE
  while (!over(start, seconds)) wait_for_interrupt();
  asm volatile("mcr p15, 0, %0, c14, c2, 1\n\tisb" ::"r"(0));
}

}  // namespace

void spin() {
  say("spins");
  const std::uint64_t start = timer_count();
  while (!over(start, 1)) {
  }
}

void wake() {
  say("wakes up");
  start_gic();
  enable_interrupt(kPhysicalTimer);
  disable_interrupts();
  asm volatile("mcrr p15, 3, %0, %0, c14" ::"r"(~0U));  // CNTV_CVAL: at the end of the count
  asm volatile("mcr p15, 0, %0, c14, c3, 1\n\tisb" ::"r"(1));
  wait_seconds(kSeconds / 2);
  start_timer(0);
  wait_seconds(kSeconds / 2);
  stop_timer();
}

void check_second_cpu() {
  // The last MiB of RAM; that CPU's caches are off.
  const auto at = static_cast<std::uint32_t>(machine.ram_base + machine.ram_size - kSection);
  clean_caches();
  map_section(at, Kind::kDevice);
  volatile auto* registers = reinterpret_cast<volatile Registers*>(at);
  for (std::uint32_t starts = 1; starts <= 3; ++starts) {
    // It can be started when it has gone off.
    const std::uint64_t begin = timer_count();
    bool started = false;
    while (!started || registers->starts != starts) {
      if (!started) started = start_cpu(1, reinterpret_cast<std::uint32_t>(&second_start), at) == 0;
      if (over(begin, kSeconds)) fail("the second CPU does not start");
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
