// The list of the kinds of UART. A driver's file defines its table; here is its name.
#include <array>

#include "platform/uart/uart.hh"

namespace cadastre {

extern const UartDriver kPl011Driver;
extern const UartDriver kNs16550Driver;

std::span<const UartDriver* const> uart_drivers() {
  static constexpr std::array kDrivers = {&kPl011Driver, &kNs16550Driver};
  return kDrivers;
}

}  // namespace cadastre
