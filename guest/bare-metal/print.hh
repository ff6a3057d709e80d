// Lines on the console, each `bare-metal-guest: ...`.
#pragma once

#include <cstdint>
#include <string_view>

namespace cadastre::guest {

struct Hex {
  std::uint64_t value;
};

void print(std::string_view text);
void print(std::uint64_t number);
void print(Hex number);

template <class... Parts>
void say(Parts... parts) {
  print("bare-metal-guest: ");
  (print(parts), ...);
  print("\r\n");
}

// Says `bare-metal-guest: FAILED: ...` and powers the guest off.
[[noreturn]] void power_off_failed();

template <class... Parts>
[[noreturn]] void fail(Parts... parts) {
  say("FAILED: ", parts...);
  power_off_failed();
}

}  // namespace cadastre::guest
