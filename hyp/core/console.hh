// The machine's console: the hypervisor's own lines, and the guests' output through it. One line at a time
// comes out whole, from whichever CPU.
#pragma once

#include <string_view>

#include "mm/base/format.hh"
#include "mm/base/spinlock.hh"
#include "platform/uart/uart.hh"

namespace cadastre {

class Console final : public Log {
 public:
  // `cadastre: LINE`. Lost while there is no UART.
  void write_line(std::string_view line) override EXCLUDES(lock_);
  // Bytes as they are; a guest's output.
  void write(std::string_view text) EXCLUDES(lock_);

  void attach(const UartDriver& driver, UartRegisters registers) EXCLUDES(lock_);
  // For its input, which ConsoleInput takes.
  [[nodiscard]] Uart& uart() { return uart_; }

  // A panic does not wait for whoever holds the lock: he may be the one who panicked.
  void write_line_unlocked(std::string_view line) NO_THREAD_SAFETY_ANALYSIS;

 private:
  void put(std::string_view text) REQUIRES(lock_);

  Spinlock lock_;
  Uart uart_;
};

extern Console console;

}  // namespace cadastre
