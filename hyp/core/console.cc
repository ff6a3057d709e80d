#include "hyp/core/console.hh"

namespace cadastre {

Console console;

namespace {
constexpr std::string_view kPrefix = "cadastre: ";
}

void Console::put(std::string_view text) {
  for (const char c : text) {
    if (c == '\n') uart_.put('\r');
    uart_.put(c);
  }
}

void Console::write_line(std::string_view line) {
  const SpinlockGuard guard(lock_);
  write_line_unlocked(line);
}

void Console::write_line_unlocked(std::string_view line) {
  put(kPrefix);
  put(line);
  put("\n");
}

void Console::write(std::string_view text) {
  const SpinlockGuard guard(lock_);
  for (const char c : text) uart_.put(c);
}

void Console::attach(const UartDriver& driver, UartRegisters registers) {
  const SpinlockGuard guard(lock_);
  uart_.attach(driver, registers);
}

}  // namespace cadastre
