#include "platform/uart/uart.hh"

#include <algorithm>
#include <array>
#include <string>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

const UartDriver& driver_for(std::string_view compatible) {
  for (const UartDriver* driver : uart_drivers()) {
    if (std::ranges::find(driver->compatibles, compatible) != driver->compatibles.end()) return *driver;
  }
  FAIL("no driver");
  std::abort();
}

// Registers that hold what is written; 16 of them, up to 4 bytes apart.
struct Registers {
  std::array<std::uint32_t, 64> words{};
  UartRegisters with(UartLayout layout) { return {words.data(), layout}; }
  std::string bytes_at(std::size_t offset, std::size_t count) {
    return {reinterpret_cast<const char*>(words.data()) + offset, count};
  }
};

constexpr unsigned kPl011Flags = 0x18 / 4;
constexpr unsigned kPl011TransmitFull = 1U << 5;
constexpr unsigned kPl011ReceiveEmpty = 1U << 4;

TEST_CASE("a register is as wide as the tree says, where it says, and its neighbours stay") {
  Registers memory;
  memory.words.fill(0xa5a5'a5a5);
  memory.with({.shift = 0, .width = 1}).write(3, 0x11);
  memory.with({.shift = 1, .width = 2}).write(3, 0x2222);
  memory.with({.shift = 2, .width = 1}).write(3, 0x33);
  memory.with({.shift = 2, .width = 4}).write(4, 0x4444'4444);
  CHECK_EQ(memory.bytes_at(0, 21),
           "\xa5\xa5\xa5\x11\xa5\xa5\x22\x22\xa5\xa5\xa5\xa5\x33\xa5\xa5\xa5\x44\x44\x44\x44\xa5");
  CHECK_EQ(memory.with({.shift = 1, .width = 2}).read(3), 0x2222);
  CHECK_EQ(memory.with({.shift = 2, .width = 4}).read(4), 0x4444'4444);
}

TEST_CASE("a 16550 of bytes and one of words are driven alike") {
  for (const UartLayout layout : {UartLayout{.shift = 0, .width = 1}, UartLayout{.shift = 2, .width = 4}}) {
    Registers memory;
    const UartRegisters registers = memory.with(layout);
    Uart uart;
    uart.attach(driver_for("snps,dw-apb-uart"), registers);
    registers.write(5, 0x20);  // the transmitter is empty, nothing is received
    uart.put('x');
    CHECK_EQ(registers.read(0), 'x');
    CHECK_FALSE(uart.get().has_value());
    registers.write(5, 0x61);
    CHECK_EQ(uart.get(), 'x');
    uart.enable_receive_interrupt(true);
    CHECK_EQ(registers.read(1), 1);
    CHECK_EQ(registers.read(4), 8);
    uart.enable_receive_interrupt(false);
    CHECK_EQ(registers.read(1), 0);
  }
}

TEST_CASE("a PL011 sends, receives and says so") {
  Registers memory;
  const UartRegisters registers = memory.with(driver_for("arm,pl011").layout);
  Uart uart;
  uart.attach(driver_for("arm,pl011"), registers);
  registers.write(kPl011Flags, kPl011ReceiveEmpty);
  uart.put('x');
  CHECK_EQ(memory.words[0], 'x');
  CHECK_FALSE(uart.get().has_value());
  registers.write(kPl011Flags, kPl011TransmitFull);
  uart.put('y');
  CHECK_EQ(uart.get(), 'x');
  uart.enable_receive_interrupt(true);
  CHECK_EQ(memory.words[0x30 / 4], 0x301);
  CHECK_EQ(memory.words[0x38 / 4], 0x50);
}

// A UART whose line stands still, and how often it was asked.
unsigned asked = 0;
bool stands_still = false;
std::string sent;
constexpr UartDriver kSlow = {
    .compatibles = {},
    .layout = {},
    .register_count = 1,
    .can_send =
        [](const UartRegisters&) {
          ++asked;
          return !stands_still;
        },
    .send = [](const UartRegisters&, char c) { sent += c; },
    .receive = [](const UartRegisters&) { return std::optional<char>(); },
    .enable_receive_interrupt = [](const UartRegisters&, bool) {},
};

TEST_CASE("a UART that stands still is waited for once, and used again when it goes on") {
  Uart uart;
  uart.put('a');  // nobody listens: nothing happens
  uart.attach(kSlow, {});
  asked = 0;
  sent.clear();
  stands_still = true;
  uart.put('b');
  CHECK_EQ(asked, Uart::kPatience + 1);
  for (const char c : {'c', 'd', 'e'}) uart.put(c);
  CHECK_EQ(asked, Uart::kPatience + 4);
  stands_still = false;
  uart.put('f');
  CHECK_EQ(sent, "f");
  stands_still = true;
  asked = 0;
  uart.put('g');
  CHECK_EQ(asked, Uart::kPatience + 1);
}

}  // namespace
}  // namespace cadastre
