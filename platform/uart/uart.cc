#include "platform/uart/uart.hh"

#include "mm/base/spinlock.hh"

namespace cadastre {

std::uint32_t UartRegisters::read(unsigned index) const {
  volatile std::byte* at = base_ + (std::size_t{index} << layout_.shift);
  switch (layout_.width) {
    case 1:
      return *reinterpret_cast<volatile std::uint8_t*>(at);
    case 2:
      return *reinterpret_cast<volatile std::uint16_t*>(at);
    default:
      return *reinterpret_cast<volatile std::uint32_t*>(at);
  }
}

void UartRegisters::write(unsigned index, std::uint32_t value) const {
  volatile std::byte* at = base_ + (std::size_t{index} << layout_.shift);
  switch (layout_.width) {
    case 1:
      *reinterpret_cast<volatile std::uint8_t*>(at) = static_cast<std::uint8_t>(value);
      break;
    case 2:
      *reinterpret_cast<volatile std::uint16_t*>(at) = static_cast<std::uint16_t>(value);
      break;
    default:
      *reinterpret_cast<volatile std::uint32_t*>(at) = value;
      break;
  }
}

void Uart::attach(const UartDriver& driver, UartRegisters registers) {
  driver_ = &driver;
  registers_ = registers;
  is_stuck_ = false;
}

void Uart::put(char c) {
  if (driver_ == nullptr) return;
  unsigned left = is_stuck_ ? 0 : kPatience;
  while (!driver_->can_send(registers_)) {
    is_stuck_ = left == 0;
    if (left-- == 0) return;
    spin_wait();
  }
  is_stuck_ = false;
  driver_->send(registers_, c);
}

std::optional<char> Uart::get() {
  return driver_ == nullptr ? std::nullopt : driver_->receive(registers_);
}

void Uart::enable_receive_interrupt(bool on) {
  if (driver_ != nullptr) driver_->enable_receive_interrupt(registers_, on);
}

}  // namespace cadastre
