// The host's console UART, whichever kind it is. Speed, format and clocks stay as firmware left them: it spoke through the
// same UART a moment ago.
//
// A driver is one file: it defines a UartDriver and is named in drivers.cc; docs/consoles.md says how to write another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace cadastre {

// How the registers lie: register i is `width` bytes (1, 2 or 4) at i << shift.
struct UartLayout {
  std::uint8_t shift = 0;
  std::uint8_t width = 1;
  friend bool operator==(const UartLayout&, const UartLayout&) = default;
};

// Registers that are mapped as device memory.
class UartRegisters {
 public:
  UartRegisters() = default;
  UartRegisters(volatile void* base, UartLayout layout)
      : base_(static_cast<volatile std::byte*>(base)), layout_(layout) {}

  [[nodiscard]] std::uint32_t read(unsigned index) const;
  void write(unsigned index, std::uint32_t value) const;

 private:
  volatile std::byte* base_ = nullptr;
  UartLayout layout_;
};

struct UartDriver {
  std::span<const std::string_view> compatibles;
  UartLayout layout;        // of a node that has neither reg-shift nor reg-io-width
  unsigned register_count;  // of which the driver uses all
  bool (*can_send)(const UartRegisters& registers);
  void (*send)(const UartRegisters& registers, char c);  // only when it can
  // A received character, if there is one; when there is none, nothing that the interrupt waits for is left either.
  std::optional<char> (*receive)(const UartRegisters& registers);
  // Receiving, and the interrupt that says so, on or off.
  void (*enable_receive_interrupt)(const UartRegisters& registers, bool on);
};

// Those that there are.
[[nodiscard]] std::span<const UartDriver* const> uart_drivers();

class Uart {
 public:
  // `driver` stays, and so does the mapping.
  void attach(const UartDriver& driver, UartRegisters registers);

  // Waits for room, but not for ever: what a UART does not take that stands still is lost. Nothing happens without a UART.
  void put(char c);
  [[nodiscard]] std::optional<char> get();
  void enable_receive_interrupt(bool on);

  // A character takes 10 bit times, 1 ms at 9600 bit/s; a read of a device takes 50 ns or more.
  static constexpr unsigned kPatience = 1U << 16;

 private:
  const UartDriver* driver_ = nullptr;
  UartRegisters registers_;
  bool is_stuck_ = false;  // it was waited for in vain: only once
};

}  // namespace cadastre
