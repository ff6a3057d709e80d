// The devices' registers: PL011 [PL011 TRM 3], GICv2 [GICv2 4.3, 4.4], and PSCI [PSCI 5.1].
#include "guest/common/cpu.hh"
#include "guest/common/machine.hh"
#include "guest/common/memory.hh"
#include "guest/common/print.hh"
#include "guest/common/psci.hh"

namespace cadastre::guest {
namespace {

volatile std::uint32_t& register_at(std::uint32_t base, std::uint32_t offset) {
  return *words_at(base + offset);
}

namespace pl011 {
constexpr std::uint32_t kData = 0x00;
constexpr std::uint32_t kFlags = 0x18;
constexpr std::uint32_t kLineControl = 0x2c;
constexpr std::uint32_t kControl = 0x30;
constexpr std::uint32_t kInterruptMask = 0x38;
constexpr std::uint32_t kInterruptClear = 0x44;
constexpr std::uint32_t kTransmitFull = 1U << 5;       // of kFlags
constexpr std::uint32_t kTransmitInterrupt = 1U << 5;  // of the interrupt registers
}  // namespace pl011

namespace gicd {
constexpr std::uint32_t kControl = 0x000;
constexpr std::uint32_t kEnable = 0x100;
constexpr std::uint32_t kDisable = 0x180;
constexpr std::uint32_t kPriority = 0x400;
constexpr std::uint32_t kTargets = 0x800;
constexpr std::uint32_t kType = 0x004;
constexpr std::uint32_t kSoftwareGenerated = 0xf00;
}  // namespace gicd

namespace gicc {
constexpr std::uint32_t kControl = 0x00;
constexpr std::uint32_t kPriorityMask = 0x04;
constexpr std::uint32_t kAcknowledge = 0x0c;
constexpr std::uint32_t kEnd = 0x10;
}  // namespace gicc

std::uint32_t call_psci(std::uint32_t function) {
  return machine.psci_by_smc ? secure_call(function, 0) : hypervisor_call(function, 0);
}

}  // namespace

void write_console(char character) {
  while ((register_at(machine.uart, pl011::kFlags) & pl011::kTransmitFull) != 0) {
  }
  register_at(machine.uart, pl011::kData) = static_cast<unsigned char>(character);
}

void start_uart_interrupts() {
  constexpr std::uint32_t kFifo8Bits = 0x70;
  constexpr std::uint32_t kEnableSendReceive = 0x301;
  register_at(machine.uart, pl011::kLineControl) = kFifo8Bits;
  register_at(machine.uart, pl011::kControl) = kEnableSendReceive;
  register_at(machine.uart, pl011::kInterruptMask) = pl011::kTransmitInterrupt;
}

void clear_uart_interrupt() {
  register_at(machine.uart, pl011::kInterruptClear) = pl011::kTransmitInterrupt;
}

void stop_uart_interrupts() {
  register_at(machine.uart, pl011::kInterruptMask) = 0;
}

void start_gic() {
  const std::uint32_t lines = 32 * ((register_at(machine.distributor, gicd::kType) & 0x1fU) + 1);
  register_at(machine.distributor, gicd::kControl) = 0;
  for (std::uint32_t n = 0; n < lines; n += 32) {
    register_at(machine.distributor, gicd::kDisable + n / 8) = 0xffff'ffff;
  }
  register_at(machine.distributor, gicd::kControl) = 1;
  register_at(machine.cpu_interface, gicc::kPriorityMask) = 0xf0;
  register_at(machine.cpu_interface, gicc::kControl) = 1;
}

void enable_interrupt(std::uint32_t number) {
  const std::uint32_t shift = 8 * (number % 4);
  volatile std::uint32_t& priority = register_at(machine.distributor, gicd::kPriority + number / 4 * 4);
  priority = (priority & ~(0xffU << shift)) | 0xa0U << shift;
  constexpr std::uint32_t kFirstShared = 32;
  if (number >= kFirstShared) {
    volatile std::uint32_t& targets = register_at(machine.distributor, gicd::kTargets + number / 4 * 4);
    targets = (targets & ~(0xffU << shift)) | 1U << shift;
  }
  register_at(machine.distributor, gicd::kEnable + number / 32 * 4) = 1U << (number % 32);
}

void send_interrupt(std::uint32_t number, std::uint32_t targets) {
  register_at(machine.distributor, gicd::kSoftwareGenerated) = targets << 16 | number;
}

std::uint32_t priorities_of(std::uint32_t number) {
  return machine.distributor + gicd::kPriority + number;
}

std::uint32_t acknowledge_interrupt() {
  return register_at(machine.cpu_interface, gicc::kAcknowledge);
}

void end_interrupt(std::uint32_t acknowledged) {
  register_at(machine.cpu_interface, gicc::kEnd) = acknowledged;
}

std::uint32_t psci_version() {
  return call_psci(psci::kVersion);
}

std::uint32_t start_cpu(std::uint32_t cpu, std::uint32_t entry, std::uint32_t context) {
  return hypervisor_call(psci::kCpuOn, cpu, entry, context);
}

std::uint32_t psci_unknown() {
  return call_psci(psci::kNoFunction);
}

void system_off() {
  call_psci(psci::kSystemOff);
  say("FAILED: SYSTEM_OFF came back");
  while (true) wait_for_interrupt();
}

void system_reset() {
  call_psci(psci::kSystemReset);
}

}  // namespace cadastre::guest
