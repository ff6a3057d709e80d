// The host's console UART, ARM PL011 [PL011 TRM, DDI 0183].
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace cadastre {

class Pl011 {
 public:
  // `registers`: where its 4 KiB are mapped as device memory.
  void attach(void* registers) { registers_ = static_cast<volatile std::uint32_t*>(registers); }
  [[nodiscard]] bool attached() const { return registers_ != nullptr; }

  // Waits while the transmit FIFO is full. Nothing happens without a UART.
  void put(char c);

  // A received character, if there is one.
  [[nodiscard]] std::optional<char> get();

  // The receive and receive-timeout interrupts, on or off.
  void enable_receive_interrupt(bool on);

 private:
  volatile std::uint32_t* registers_ = nullptr;
};

}  // namespace cadastre
