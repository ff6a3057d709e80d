#include "guest/common/exceptions.hh"

#include <atomic>

#include "guest/common/cpu.hh"
#include "guest/common/machine.hh"
#include "guest/common/print.hh"

namespace cadastre::guest {
namespace {

bool expected;
Caught caught;
// Written by the interrupt handler only.
std::atomic<std::uint32_t> delay = 0;
std::atomic<std::uint32_t> timer_count_taken;
std::atomic<std::uint32_t> uart_count_taken;
std::atomic<std::uint32_t> stray;

void add_one(std::atomic<std::uint32_t>& count) {
  count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// FS[4] is bit 10 of either register.
std::uint32_t fault_status(std::uint32_t fsr) {
  return (fsr & 0xfU) | (fsr >> 6 & 0x10U);
}

}  // namespace

// As start.S leaves it on the stack.
struct ExceptionFrame {
  std::uint32_t registers[13];
  std::uint32_t link;
  std::uint32_t pc;
  std::uint32_t cpsr;
};
static_assert(sizeof(ExceptionFrame) == 64);

extern "C" {

void on_undefined(ExceptionFrame* frame) {
  if (!expected) fail("undefined instruction at ", Hex{frame->pc});
  expected = false;
  caught = {.exception = Exception::kUndefined, .status = 0, .address = 0};
  frame->pc += 4;
}

void on_supervisor_call(ExceptionFrame* frame) {
  fail("supervisor call before ", Hex{frame->pc});
}

void on_prefetch_abort(ExceptionFrame* frame) {
  if (!expected) fail("prefetch abort at ", Hex{frame->pc});
  expected = false;
  caught = {.exception = Exception::kPrefetchAbort, .status = fault_status(ifsr()), .address = 0};
  frame->pc = frame->registers[4];  // execute()
}

void on_data_abort(ExceptionFrame* frame) {
  const std::uint32_t status = fault_status(dfsr());
  if (!expected) {
    fail("data abort at ", Hex{frame->pc}, ", DFSR ", Hex{dfsr()}, ", DFAR ", Hex{dfar()});
  }
  expected = false;
  caught = {.exception = Exception::kDataAbort, .status = status, .address = dfar()};
  // An asynchronous abort is no instruction's; the vector made `pc` what a synchronous one needs.
  frame->pc += status == kAsynchronousExternal ? 0 : 4;
}

void on_irq(ExceptionFrame* /*frame*/) {
  const auto begin = static_cast<std::uint32_t>(timer_count());
  const std::uint32_t acknowledged = acknowledge_interrupt();
  const std::uint32_t number = acknowledged & 0x3ffU;
  if (number == machine.timer_interrupt) {
    delay.store(begin - static_cast<std::uint32_t>(timer_compare()), std::memory_order_relaxed);
    stop_timer();
    add_one(timer_count_taken);
  } else if (number == machine.uart_interrupt) {
    clear_uart_interrupt();
    add_one(uart_count_taken);
  } else if (number < 1020) {
    stray.store(number, std::memory_order_relaxed);
  } else {
    return;  // spurious: there is nothing to end [GICv2 3.2.5]
  }
  end_interrupt(acknowledged);
}
}

void expect_exception() {
  caught = {};
  expected = true;
  asm volatile("" ::: "memory");
}

Caught take_exception() {
  dsb();
  isb();
  expected = false;
  return caught;
}

std::uint32_t timer_interrupts() {
  return timer_count_taken.load(std::memory_order_relaxed);
}
std::uint32_t timer_delay() {
  return delay.load(std::memory_order_relaxed);
}
std::uint32_t uart_interrupts() {
  return uart_count_taken.load(std::memory_order_relaxed);
}
std::uint32_t stray_interrupt() {
  return stray.load(std::memory_order_relaxed);
}

}  // namespace cadastre::guest
