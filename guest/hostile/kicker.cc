// `kicker [for=MS] [ctlr]`, with two CPUs of which the second stays off: sends it software-generated interrupts all the time; with
// `ctlr` it turns its distributor off and on instead, which concerns every CPU that it has. Each of these wakes nobody up, and
// must not disturb whoever runs on the machine's other CPUs.
#include "guest/common/machine.hh"
#include "guest/common/memory.hh"
#include "guest/common/print.hh"
#include "guest/hostile/role.hh"

namespace cadastre::guest {

void kick() {
  constexpr std::uint32_t kInterrupt = 3;
  constexpr std::uint32_t kSecondCpu = 1U << 1;
  const bool toggles = has_word("ctlr");
  start_gic();
  volatile std::uint32_t* distributor_control = words_at(machine.distributor);
  std::uint64_t kicks = 0;
  for (const Stretch all = Stretch::of_microseconds(1000 * number_of("for", 5000)); !all.over(); ++kicks) {
    if (toggles) {
      *distributor_control = 1;
      *distributor_control = 0;
    } else {
      send_interrupt(kInterrupt, kSecondCpu);
    }
    // An emulator that runs CPUs one after the other gives the others the time to be disturbed by each.
    asm volatile("yield");
  }
  say("kicked ", kicks, " times");
}

}  // namespace cadastre::guest
