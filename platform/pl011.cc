#include "platform/pl011.hh"

namespace cadastre {
namespace {

// Word indices of the registers [PL011 TRM 3.2].
constexpr std::size_t kDr = 0x00 / 4;
constexpr std::size_t kFr = 0x18 / 4;
constexpr std::size_t kCr = 0x30 / 4;
constexpr std::size_t kImsc = 0x38 / 4;

constexpr std::uint32_t kFrReceiveEmpty = 1U << 4;
constexpr std::uint32_t kFrTransmitFull = 1U << 5;
constexpr std::uint32_t kCrEnable = (1U << 0) | (1U << 8) | (1U << 9);  // UARTEN, TXE, RXE
constexpr std::uint32_t kInterruptReceive = (1U << 4) | (1U << 6);      // RX, RT

}  // namespace

void Pl011::put(char c) {
  if (registers_ == nullptr) return;
  while ((registers_[kFr] & kFrTransmitFull) != 0) {
  }
  registers_[kDr] = static_cast<unsigned char>(c);
}

std::optional<char> Pl011::get() {
  if (registers_ == nullptr || (registers_[kFr] & kFrReceiveEmpty) != 0) return std::nullopt;
  return static_cast<char>(registers_[kDr] & 0xff);
}

void Pl011::enable_receive_interrupt(bool on) {
  if (registers_ == nullptr) return;
  registers_[kCr] = registers_[kCr] | kCrEnable;
  registers_[kImsc] = on ? kInterruptReceive : 0;
}

}  // namespace cadastre
