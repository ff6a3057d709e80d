// ARM's PL011 [PL011 TRM, DDI 0183].
#include <array>

#include "platform/uart/uart.hh"

namespace cadastre {

extern const UartDriver kPl011Driver;

namespace {

constexpr std::array<std::string_view, 1> kCompatibles = {"arm,pl011"};

// Indices of the registers, which are words [PL011 TRM 3.2].
constexpr unsigned kDr = 0x00 / 4;
constexpr unsigned kFr = 0x18 / 4;
constexpr unsigned kCr = 0x30 / 4;
constexpr unsigned kImsc = 0x38 / 4;

constexpr std::uint32_t kFrReceiveEmpty = 1U << 4;
constexpr std::uint32_t kFrTransmitFull = 1U << 5;
constexpr std::uint32_t kCrEnable = (1U << 0) | (1U << 8) | (1U << 9);  // UARTEN, TXE, RXE
constexpr std::uint32_t kInterruptReceive = (1U << 4) | (1U << 6);      // RX, RT

bool can_send(const UartRegisters& registers) {
  return (registers.read(kFr) & kFrTransmitFull) == 0;
}

void send(const UartRegisters& registers, char c) {
  registers.write(kDr, static_cast<unsigned char>(c));
}

std::optional<char> receive(const UartRegisters& registers) {
  if ((registers.read(kFr) & kFrReceiveEmpty) != 0) return std::nullopt;
  return static_cast<char>(registers.read(kDr) & 0xff);
}

void enable_receive_interrupt(const UartRegisters& registers, bool on) {
  registers.write(kCr, registers.read(kCr) | kCrEnable);
  registers.write(kImsc, on ? kInterruptReceive : 0);
}

}  // namespace

const UartDriver kPl011Driver = {
    .compatibles = kCompatibles,
    .layout = {.shift = 2, .width = 4},
    .register_count = kImsc + 1,
    .can_send = can_send,
    .send = send,
    .receive = receive,
    .enable_receive_interrupt = enable_receive_interrupt,
};

}  // namespace cadastre
