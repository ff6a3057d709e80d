#include "hyp/core/console_input.hh"

#include "hyp/core/console.hh"

namespace cadastre {

ConsoleInput console_input;

void ConsoleInput::attach(Vpl011* uart) {
  const SpinlockGuard guard(lock_);
  uart_ = uart;
  console.uart().enable_receive_interrupt(true);
  deliver_locked();
}

void ConsoleInput::receive() {
  const SpinlockGuard guard(lock_);
  while (const auto c = console.uart().get()) {
    if (count_ == kSize) continue;  // a person types slower; what pastes more than that loses its end
    ring_[(head_ + count_++) % kSize] = *c;
  }
  deliver_locked();
}

void ConsoleInput::deliver() {
  const SpinlockGuard guard(lock_);
  deliver_locked();
}

void ConsoleInput::deliver_locked() {
  while (count_ != 0 && uart_ != nullptr && uart_->receive(ring_[head_])) {
    head_ = (head_ + 1) % kSize;
    --count_;
  }
}

}  // namespace cadastre
