#include "guest/common/print.hh"

#include <array>
#include <charconv>

#include "guest/common/machine.hh"

namespace cadastre::guest {
namespace {

void print_number(std::uint64_t number, int base) {
  std::array<char, 20> digits;  // 2^64 has 20
  const auto end = std::to_chars(digits.begin(), digits.end(), number, base);
  print(std::string_view(digits.data(), static_cast<std::size_t>(end.ptr - digits.data())));
}

}  // namespace

void print(std::string_view text) {
  for (const char character : text) write_console(character);
}

void print(std::uint64_t number) {
  print_number(number, 10);
}

void print(Hex number) {
  print("0x");
  print_number(number.value, 16);
}

void power_off_failed() {
  system_off();
}

}  // namespace cadastre::guest
