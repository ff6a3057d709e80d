// Lines on the console, each `bare-metal-guest: ...`, or what else the image's name is (guest.hh).
#pragma once

#include <cstdint>
#include <string_view>

#include "guest/common/guest.hh"

namespace cadastre::guest {

struct Hex {
  std::uint64_t value;
};

void print(std::string_view text);
void print(std::uint64_t number);
void print(Hex number);

template <class... Parts>
void say(Parts... parts) {
  print(guest_name);
  print("-guest: ");
  (print(parts), ...);
  print("\r\n");
}

// Says `NAME-guest: FAILED: ...` and powers the guest off.
[[noreturn]] void power_off_failed();

template <class... Parts>
[[noreturn]] void fail(Parts... parts) {
  say("FAILED: ", parts...);
  power_off_failed();
}

}  // namespace cadastre::guest
