// A guest's UART: the registers of an ARM PL011 [PL011 TRM, DDI 0183 chapter 3], one whose line is infinitely
// fast.
//
// - What is sent is gone at once: the transmit FIFO is always empty, and every character written passes its
// trigger
//   level again, so that TXRIS is set by each and stays until it is cleared through ICR [PL011 2.8.3].
// - What is received and not read has always been there for the 32 bit times after which the receive timeout
// is asserted:
//   RTRIS is set as long as the receive FIFO holds anything [PL011 2.8.4]. RXRIS follows the trigger level.
// - Sends and receives before the guest sets UARTEN: early consoles that rely on what firmware left behind
// do.
#pragma once

#include <array>
#include <cstdint>

#include "hyp/devices/interrupt_line.hh"
#include "hyp/devices/text_sink.hh"
#include "mm/base/annotations.hh"
#include "mm/base/spinlock.hh"

namespace cadastre {

class Vpl011 {
 public:
  static constexpr std::uint32_t kRegistersSize = 0x1000;

  // `sink` gets a character at a time, and `line` each change, with this UART's lock held.
  Vpl011(TextSink& sink, InterruptLine& line) : sink_(sink), line_(line) {}

  // A guest's access, `offset` bytes from the base. Registers answer to bytes, halfwords and words at their
  // own offset; anything else reads as zero and ignores writes.
  [[nodiscard]] std::uint32_t read(std::uint32_t offset, unsigned size) EXCLUDES(lock_);
  void write(std::uint32_t offset, unsigned size, std::uint32_t value) EXCLUDES(lock_);

  // A character from the host. False when the FIFO is full: keep it, and offer it again when `can_receive`.
  [[nodiscard]] bool receive(char c) EXCLUDES(lock_);
  [[nodiscard]] bool can_receive() EXCLUDES(lock_);

  // The combined interrupt, UARTINTR: what `line` was told last.
  [[nodiscard]] bool interrupt_level() EXCLUDES(lock_);

  // As after power-on; what was received and not read is lost.
  void reset() EXCLUDES(lock_);

 private:
  static constexpr unsigned kFifoDepth = 16;

  struct Registers {
    std::uint32_t receive_status = 0;  // RSR
    std::uint32_t irda_divisor = 0;    // ILPR
    std::uint32_t baud_integer = 0;    // IBRD
    std::uint32_t baud_fraction = 0;   // FBRD
    std::uint32_t line_control = 0;    // LCR_H
    std::uint32_t control = 0x300;     // CR
    std::uint32_t fifo_level = 0x12;   // IFLS
    std::uint32_t mask = 0;            // IMSC
    std::uint32_t latched = 0;         // RIS, but for the receive timeout
    std::uint32_t dma_control = 0;     // DMACR
  };

  [[nodiscard]] std::uint32_t read_register(std::uint32_t offset) REQUIRES(lock_);
  [[nodiscard]] std::uint32_t read_data() REQUIRES(lock_);
  void write_data(std::uint8_t value) REQUIRES(lock_);
  void write_line_control(std::uint32_t value) REQUIRES(lock_);
  void push(std::uint8_t data) REQUIRES(lock_);
  [[nodiscard]] unsigned depth() const REQUIRES(lock_);
  [[nodiscard]] unsigned receive_trigger() const REQUIRES(lock_);
  [[nodiscard]] std::uint32_t flags() const REQUIRES(lock_);
  [[nodiscard]] std::uint32_t raw_interrupts() const REQUIRES(lock_);
  void update_line() REQUIRES(lock_);

  TextSink& sink_;
  InterruptLine& line_;
  Spinlock lock_;
  Registers registers_ GUARDED_BY(lock_);
  std::array<std::uint8_t, kFifoDepth> fifo_ GUARDED_BY(lock_){};
  unsigned first_ GUARDED_BY(lock_) = 0;
  unsigned count_ GUARDED_BY(lock_) = 0;
  bool level_ GUARDED_BY(lock_) = false;
};

}  // namespace cadastre
