// The registers of a guest at its last exit, as the world switch pushes them; offsets for the assembler, checked below.
#pragma once

#define FRAME_ELR 56
#define FRAME_SPSR 60
#define FRAME_HYP_SP 64
#define FRAME_SIZE 72

// Why the guest stopped running: the vector that was taken.
#define EXIT_TRAP 0
#define EXIT_IRQ 1
#define EXIT_FIQ 2
#define EXIT_ASYNC_ABORT 3

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

namespace cadastre {

struct alignas(8) GuestFrame {
  std::uint32_t r[13] = {};
  std::uint32_t lr = 0;  // of User and System mode, which HYP mode shares [ARMv7 B1.3.2]
  std::uint32_t pc = 0;
  std::uint32_t cpsr = 0;
  std::uint32_t hyp_sp = 0;  // HYP's own stack pointer while the guest runs
};
static_assert(offsetof(GuestFrame, lr) == 13 * 4);
static_assert(offsetof(GuestFrame, pc) == FRAME_ELR);
static_assert(offsetof(GuestFrame, cpsr) == FRAME_SPSR);
static_assert(offsetof(GuestFrame, hyp_sp) == FRAME_HYP_SP);
static_assert(sizeof(GuestFrame) == FRAME_SIZE);

enum class ExitKind : std::uint32_t {
  kTrap = EXIT_TRAP,
  kIrq = EXIT_IRQ,
  kFiq = EXIT_FIQ,
  kAsyncAbort = EXIT_ASYNC_ABORT,
};

// Runs the guest whose registers are in `frame` until something needs HYP. Everything else of its state (cp15, timer,
// interrupts, floating point) is in the hardware already.
extern "C" ExitKind enter_guest(GuestFrame* frame);

// The registers of HYP code at an exception that HYP itself caused.
struct HypFrame {
  std::uint32_t r[13];
  std::uint32_t lr;
  std::uint32_t pc;
  std::uint32_t cpsr;
};

// Ends in a panic. `vector` is the offset of the vector taken [ARMv7 B1.8.1].
extern "C" [[noreturn]] void hyp_exception(const HypFrame* frame, std::uint32_t vector);

}  // namespace cadastre

#endif
