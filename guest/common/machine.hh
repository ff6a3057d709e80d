// What the DTB says this machine is, and the devices it has. There is one of each.
#pragma once

#include <cstdint>
#include <string_view>

namespace cadastre::guest {

struct Machine {
  std::uint64_t ram_base = 0;
  std::uint64_t ram_size = 0;
  // PL011 where every machine of this kind has it, so that something can be said before the DTB is read.
  std::uint32_t uart = 0x0900'0000;
  std::uint32_t uart_interrupt = 0;
  std::uint32_t distributor = 0;
  std::uint32_t cpu_interface = 0;
  std::uint32_t timer_interrupt = 0;  // of the virtual timer
  bool psci_by_smc = false;
  std::uint32_t dtb_start = 0;
  std::uint32_t dtb_end = 0;
  std::string_view bootargs;
};

extern Machine machine;  // NOLINT(bugprone-dynamic-static-initializers): constinit where it is defined

// Fills in `machine`. Null, or what the DTB lacks.
const char* read_machine(const void* dtb);
// Where RAM ends for a kernel without LPAE: at or below 4 GiB.
[[nodiscard]] inline std::uint64_t ram_end() {
  constexpr std::uint64_t k4GiB = 1ULL << 32;
  const std::uint64_t end = machine.ram_base + machine.ram_size;
  return end < k4GiB ? end : k4GiB;
}
// The first block of 2 MiB behind the DTB, which is behind the image: nobody has touched it, or what comes after.
[[nodiscard]] inline std::uint32_t untouched_ram() {
  constexpr std::uint32_t kBlock = 0x20'0000;
  return (machine.dtb_end + kBlock - 1) & ~(kBlock - 1);
}

// A word of the command line; and the decimal number of a word `KEY=NUMBER`, or `otherwise`.
bool has_word(std::string_view word);
std::uint32_t number_of(std::string_view key, std::uint32_t otherwise);

// The PL011 sends; its transmit interrupt is off but in between the two calls.
void write_console(char character);
void start_uart_interrupts();
void clear_uart_interrupt();
void stop_uart_interrupts();

// GICv2: everything off but what is enabled by number [GICv2 4.3, 4.4].
void start_gic();
void enable_interrupt(std::uint32_t number);
// The registers of the priorities of 32 interrupts from `number` on, a multiple of 4, which nobody uses.
std::uint32_t priorities_of(std::uint32_t number);
std::uint32_t acknowledge_interrupt();
void end_interrupt(std::uint32_t acknowledged);

// PSCI [PSCI 5.1]; the calls that end the guest come back only if they fail.
std::uint32_t psci_version();
std::uint32_t psci_unknown();
// Starts another CPU at `entry`, MMU off, with r0 = `context`; returns PSCI's answer, 0 when it will.
std::uint32_t start_cpu(std::uint32_t cpu, std::uint32_t entry, std::uint32_t context);
[[noreturn]] void system_off();
void system_reset();
// Software-generated interrupt `number` to the CPUs in `targets`, a bit for each [GICv2 4.3.15].
void send_interrupt(std::uint32_t number, std::uint32_t targets);

}  // namespace cadastre::guest
