// `sleeper [run=US] [nap=US] [for=MS]`: works for a little less than a time slice and sleeps for a moment, again and again; what
// a scheduler gives to who wakes up is taken from the neighbours. `spinner [for=MS]`: never waits.
#include "guest/common/machine.hh"
#include "guest/common/print.hh"
#include "guest/hostile/role.hh"

namespace cadastre::guest {
namespace {

constexpr std::uint32_t kSecond = 1000;

[[nodiscard]] Stretch given_time() {
  return Stretch::of_microseconds(1000 * number_of("for", kSecond));
}

}  // namespace

void sleep() {
  start_gic();
  enable_interrupt(machine.timer_interrupt);
  disable_interrupts();  // what is pending ends WFI all the same
  const std::uint32_t run = number_of("run", 9900);
  const auto nap = static_cast<std::uint32_t>(std::uint64_t{number_of("nap", 500)} * timer_frequency() / 1'000'000);
  std::uint64_t naps = 0;
  for (const Stretch all = given_time(); !all.over(); ++naps) {
    Stretch::of_microseconds(run).spin_out();
    const Stretch asleep(nap);
    start_timer(nap);
    while (!asleep.over()) wait_for_interrupt();
    stop_timer();
    if (const std::uint32_t interrupt = acknowledge_interrupt(); (interrupt & 0x3ffU) == machine.timer_interrupt) {
      end_interrupt(interrupt);
    }
  }
  say("slept ", naps, " times");
}

void spin() {
  given_time().spin_out();
}

}  // namespace cadastre::guest
