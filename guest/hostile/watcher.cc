// `watcher [for=MS]`: the neighbour that the others are hostile to. Looks at the clock all the time and says what of it was not
// its own: how much it lost, in gaps of more than a microsecond, and the longest gap.
#include <algorithm>

#include "guest/common/machine.hh"
#include "guest/common/print.hh"
#include "guest/hostile/role.hh"

namespace cadastre::guest {

void watch() {
  const std::uint32_t frequency = timer_frequency();
  const auto microseconds = [&](std::uint64_t ticks) { return ticks * 1'000'000 / frequency; };
  const std::uint64_t smallest = frequency / 1'000'000;
  const Stretch all = Stretch::of_microseconds(1000 * number_of("for", 1000));
  const std::uint64_t begin = timer_count();
  std::uint64_t last = begin;
  std::uint64_t lost = 0;
  std::uint64_t gaps = 0;
  std::uint64_t longest = 0;
  while (last < all.end()) {
    const std::uint64_t now = timer_count();
    const std::uint64_t gap = now - last;
    if (gap > smallest) {
      lost += gap;
      ++gaps;
    }
    longest = std::max(longest, gap);
    last = now;
  }
  say("of ", microseconds(last - begin), " us lost ", microseconds(lost), " us in ", gaps, " gaps, the longest ",
      microseconds(longest), " us");
}

}  // namespace cadastre::guest
