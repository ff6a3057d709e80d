// Exceptions that a check provokes on purpose, and those that nobody asked for, which end the guest.
#pragma once

#include <cstdint>

namespace cadastre::guest {

enum class Exception : std::uint8_t { kNone, kUndefined, kPrefetchAbort, kDataAbort };

struct Caught {
  Exception exception = Exception::kNone;
  std::uint32_t status = 0;   // of an abort: the five FS bits of DFSR or IFSR [ARMv7 B3.13.3]
  std::uint32_t address = 0;  // of a synchronous data abort: DFAR
};

// Fault status, short-descriptor format [ARMv7 table B3-23].
inline constexpr std::uint32_t kSectionTranslation = 0b00101;
inline constexpr std::uint32_t kPageTranslation = 0b00111;
inline constexpr std::uint32_t kSynchronousExternal = 0b01000;
inline constexpr std::uint32_t kPagePermission = 0b01111;
inline constexpr std::uint32_t kAsynchronousExternal = 0b10110;

// From here on one undefined instruction or data abort is remembered and stepped over, or one abort of the fetch in execute().
void expect_exception();
// What came since, if anything; exceptions are unexpected again.
Caught take_exception();

// How often the interrupt came. `on_irq` silences its source.
std::uint32_t timer_interrupts();
// Of the last one of the timer's: ticks from when it was due to its handler.
std::uint32_t timer_delay();
std::uint32_t uart_interrupts();
// Any other that came: its number, or 0.
std::uint32_t stray_interrupt();

}  // namespace cadastre::guest
