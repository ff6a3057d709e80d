// `waker`: waits only, for two seconds, with a timer that is always due and that nobody hears.
#include "guest/common/machine.hh"
#include "guest/hostile/role.hh"

namespace cadastre::guest {
namespace {

constexpr std::uint32_t kPhysicalTimer = 30;  // a PPI

// Until the physical timer has run down, or whatever else wakes this CPU up, again and again.
void wait_a_second() {
  const Stretch second = Stretch::of_seconds(1);
  asm volatile("mcr p15, 0, %0, c14, c2, 0" ::"r"(timer_frequency() + 1));  // CNTP_TVAL
  asm volatile("mcr p15, 0, %0, c14, c2, 1\n\tisb" ::"r"(1));               // CNTP_CTL.ENABLE
  while (!second.over()) wait_for_interrupt();
  asm volatile("mcr p15, 0, %0, c14, c2, 1\n\tisb" ::"r"(0));
}

}  // namespace

void wake() {
  start_gic();
  enable_interrupt(kPhysicalTimer);
  disable_interrupts();
  asm volatile("mcrr p15, 3, %0, %0, c14" ::"r"(~0U));  // CNTV_CVAL: at the end of the count
  asm volatile("mcr p15, 0, %0, c14, c3, 1\n\tisb" ::"r"(1));
  wait_a_second();
  start_timer(0);
  wait_a_second();
  stop_timer();
}

}  // namespace cadastre::guest
