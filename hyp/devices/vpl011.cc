#include "hyp/devices/vpl011.hh"

namespace cadastre {

namespace {

// Register offsets [PL011 3.2].
constexpr std::uint32_t kData = 0x000;
constexpr std::uint32_t kReceiveStatus = 0x004;
constexpr std::uint32_t kFlags = 0x018;
constexpr std::uint32_t kIrdaDivisor = 0x020;
constexpr std::uint32_t kBaudInteger = 0x024;
constexpr std::uint32_t kBaudFraction = 0x028;
constexpr std::uint32_t kLineControl = 0x02c;
constexpr std::uint32_t kControl = 0x030;
constexpr std::uint32_t kFifoLevel = 0x034;
constexpr std::uint32_t kMask = 0x038;
constexpr std::uint32_t kRawStatus = 0x03c;
constexpr std::uint32_t kMaskedStatus = 0x040;
constexpr std::uint32_t kClear = 0x044;
constexpr std::uint32_t kDmaControl = 0x048;
constexpr std::uint32_t kIdentification = 0xfe0;

// Revision r1p3, whose FIFOs are 16 deep; later ones have 32 [PL011 3.3.15].
constexpr std::array<std::uint8_t, 8> kIds = {0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1};

// UARTRSR
constexpr std::uint32_t kOverrun = 1U << 3;
// UARTFR
constexpr std::uint32_t kFlagCts = 1U << 0;
constexpr std::uint32_t kFlagDsr = 1U << 1;
constexpr std::uint32_t kFlagDcd = 1U << 2;
constexpr std::uint32_t kFlagReceiveEmpty = 1U << 4;
constexpr std::uint32_t kFlagReceiveFull = 1U << 6;
constexpr std::uint32_t kFlagTransmitEmpty = 1U << 7;
constexpr std::uint32_t kFlagRing = 1U << 8;
// UARTLCR_H
constexpr std::uint32_t kFifoEnable = 1U << 4;
// UARTCR
constexpr std::uint32_t kLoopback = 1U << 7;
constexpr std::uint32_t kDtr = 1U << 10;
constexpr std::uint32_t kRts = 1U << 11;
constexpr std::uint32_t kOut1 = 1U << 12;
constexpr std::uint32_t kOut2 = 1U << 13;
// UARTIMSC, UARTRIS, UARTMIS, UARTICR
constexpr std::uint32_t kReceive = 1U << 4;
constexpr std::uint32_t kTransmit = 1U << 5;
constexpr std::uint32_t kReceiveTimeout = 1U << 6;
constexpr std::uint32_t kOverrunError = 1U << 10;
// Implemented bits.
constexpr std::uint32_t kByte = 0xff;
constexpr std::uint32_t kControlBits = 0xff87;
constexpr std::uint32_t kInterruptBits = 0x7ff;

}  // namespace

std::uint32_t Vpl011::read(std::uint32_t offset, unsigned size) {
  const SpinlockGuard guard(lock_);
  const std::uint32_t value = read_register(offset);
  return size < 4 ? value & ((1U << 8 * size) - 1) : value;
}

std::uint32_t Vpl011::read_register(std::uint32_t offset) {
  switch (offset) {
    case kData:
      return read_data();
    case kReceiveStatus:
      return registers_.receive_status;
    case kFlags:
      return flags();
    case kIrdaDivisor:
      return registers_.irda_divisor;
    case kBaudInteger:
      return registers_.baud_integer;
    case kBaudFraction:
      return registers_.baud_fraction;
    case kLineControl:
      return registers_.line_control;
    case kControl:
      return registers_.control;
    case kFifoLevel:
      return registers_.fifo_level;
    case kMask:
      return registers_.mask;
    case kRawStatus:
      return raw_interrupts();
    case kMaskedStatus:
      return raw_interrupts() & registers_.mask;
    case kDmaControl:
      return registers_.dma_control;
    default:
      break;
  }
  const bool identification = offset >= kIdentification && offset < kRegistersSize && offset % 4 == 0;
  return identification ? kIds[(offset - kIdentification) / 4] : 0;
}

void Vpl011::write(std::uint32_t offset, unsigned size, std::uint32_t value) {
  if (size < 4) value &= (1U << 8 * size) - 1;
  const SpinlockGuard guard(lock_);
  switch (offset) {
    case kData:
      write_data(static_cast<std::uint8_t>(value));
      break;
    case kReceiveStatus:
      registers_.receive_status = 0;
      break;  // any value clears the errors
    case kIrdaDivisor:
      registers_.irda_divisor = value & kByte;
      break;
    case kBaudInteger:
      registers_.baud_integer = value & 0xffff;
      break;
    case kBaudFraction:
      registers_.baud_fraction = value & 0x3f;
      break;
    case kLineControl:
      write_line_control(value & kByte);
      break;
    case kControl:
      registers_.control = value & kControlBits;
      break;
    case kFifoLevel:
      registers_.fifo_level = value & 0x3f;
      break;
    case kMask:
      registers_.mask = value & kInterruptBits;
      break;
    case kClear:
      registers_.latched &= ~value;
      break;
    case kDmaControl:
      registers_.dma_control = value & 7;
      break;
    default:
      break;
  }
  update_line();
}

bool Vpl011::receive(char c) {
  const SpinlockGuard guard(lock_);
  // In loopback the receiver listens to the transmitter only.
  if (count_ == depth() || (registers_.control & kLoopback) != 0) return false;
  push(static_cast<std::uint8_t>(c));
  update_line();
  return true;
}

bool Vpl011::can_receive() {
  const SpinlockGuard guard(lock_);
  return count_ < depth() && (registers_.control & kLoopback) == 0;
}

bool Vpl011::interrupt_level() {
  const SpinlockGuard guard(lock_);
  return level_;
}

void Vpl011::reset() {
  const SpinlockGuard guard(lock_);
  registers_ = {};
  count_ = 0;
  update_line();
}

std::uint32_t Vpl011::read_data() {
  if (count_ == 0) return 0;
  const std::uint32_t data = fifo_[first_];
  first_ = (first_ + 1) % kFifoDepth;
  --count_;
  if (count_ < receive_trigger()) registers_.latched &= ~kReceive;
  update_line();
  return data;
}

void Vpl011::write_data(std::uint8_t value) {
  registers_.latched |= kTransmit;
  if ((registers_.control & kLoopback) != 0) {
    push(value);
    return;
  }
  const char c = static_cast<char>(value);
  sink_.write({&c, 1});
}

// Only in loopback can a character find the FIFO full; it is lost then [PL011 3.3.2].
void Vpl011::push(std::uint8_t data) {
  if (count_ == depth()) {
    registers_.receive_status |= kOverrun;
    registers_.latched |= kOverrunError;
    return;
  }
  fifo_[(first_ + count_) % kFifoDepth] = data;
  ++count_;
  if (count_ >= receive_trigger()) registers_.latched |= kReceive;
}

// Turning the FIFOs on or off empties them.
void Vpl011::write_line_control(std::uint32_t value) {
  if (((registers_.line_control ^ value) & kFifoEnable) != 0) {
    count_ = 0;
    registers_.latched &= ~kReceive;
  }
  registers_.line_control = value;
}

unsigned Vpl011::depth() const {
  return (registers_.line_control & kFifoEnable) != 0 ? kFifoDepth : 1;
}

// RXIFLSEL: 1/8, 1/4, 1/2, 3/4, 7/8 of the FIFO; the rest is reserved [PL011 3.3.9].
unsigned Vpl011::receive_trigger() const {
  constexpr std::array<unsigned, 8> kTriggers = {2, 4, 8, 12, 14, 14, 14, 14};
  return depth() == 1 ? 1 : kTriggers[registers_.fifo_level >> 3 & 7];
}

// A terminal is always there and ready; in loopback the modem inputs are the outputs [PL011 2.4.4].
std::uint32_t Vpl011::flags() const {
  std::uint32_t value = kFlagTransmitEmpty;
  if (count_ == 0) value |= kFlagReceiveEmpty;
  if (count_ == depth()) value |= kFlagReceiveFull;
  const std::uint32_t control = registers_.control;
  if ((control & kLoopback) == 0) return value | kFlagCts | kFlagDsr | kFlagDcd;
  if ((control & kRts) != 0) value |= kFlagCts;
  if ((control & kDtr) != 0) value |= kFlagDsr;
  if ((control & kOut1) != 0) value |= kFlagDcd;
  if ((control & kOut2) != 0) value |= kFlagRing;
  return value;
}

std::uint32_t Vpl011::raw_interrupts() const {
  return registers_.latched | (count_ != 0 ? kReceiveTimeout : 0);
}

void Vpl011::update_line() {
  const bool level = (raw_interrupts() & registers_.mask) != 0;
  if (level == level_) return;
  level_ = level;
  line_.set(level);
}

}  // namespace cadastre
