// The 16550 and what is made after it: National's own, Synopsys' DesignWare (which Allwinner, Rockchip and others have),
// NVIDIA's [PC16550D data sheet, TL/C/8652].
#include <array>

#include "platform/uart/uart.hh"

namespace cadastre {

extern const UartDriver kNs16550Driver;

namespace {

constexpr std::array<std::string_view, 4> kCompatibles = {"ns16550a", "ns16550", "snps,dw-apb-uart",
                                                          "nvidia,tegra20-uart"};

// [PC16550D 8.0] While LCR's divisor latch bit is off, as firmware leaves it.
constexpr unsigned kData = 0;  // RBR when read, THR when written
constexpr unsigned kInterruptEnable = 1;
constexpr unsigned kInterruptIdentity = 2;
constexpr unsigned kModemControl = 4;
constexpr unsigned kLineStatus = 5;

constexpr std::uint32_t kInterruptReceive = 1U << 0;
constexpr std::uint32_t kIdentityMask = 0xf;
constexpr std::uint32_t kCharacterTimeout = 0xc;
constexpr std::uint32_t kInterruptOutput = 1U << 3;  // OUT2: on many boards it lets the interrupt out
constexpr std::uint32_t kDataReady = 1U << 0;
constexpr std::uint32_t kTransmitEmpty = 1U << 5;

bool can_send(const UartRegisters& registers) {
  return (registers.read(kLineStatus) & kTransmitEmpty) != 0;
}

void send(const UartRegisters& registers, char c) {
  registers.write(kData, static_cast<unsigned char>(c));
}

// DesignWare's can say that characters wait for too long when there is none any more; a read takes it back.
std::optional<char> receive(const UartRegisters& registers) {
  if ((registers.read(kLineStatus) & kDataReady) == 0) {
    if ((registers.read(kInterruptIdentity) & kIdentityMask) == kCharacterTimeout) (void)registers.read(kData);
    return std::nullopt;
  }
  return static_cast<char>(registers.read(kData) & 0xff);
}

void enable_receive_interrupt(const UartRegisters& registers, bool on) {
  registers.write(kModemControl, registers.read(kModemControl) | kInterruptOutput);
  registers.write(kInterruptEnable, on ? kInterruptReceive : 0);
}

}  // namespace

const UartDriver kNs16550Driver = {
    .compatibles = kCompatibles,
    .layout = {.shift = 0, .width = 1},
    .register_count = kLineStatus + 1,
    .can_send = can_send,
    .send = send,
    .receive = receive,
    .enable_receive_interrupt = enable_receive_interrupt,
};

}  // namespace cadastre
