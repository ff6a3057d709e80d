// One instruction of a guest, done for it: what a trapped access to a device is when the CPU gives no syndrome for it
// (decode.hh).
//
//   fetch at pc --> condition --> decode --> each access in turn --> registers, base, pc and IT state
//      |                                        |
//      prefetch abort                           data abort: no register has changed yet, so the guest may restart it
//
// At most 16 accesses. Those before one that aborts have been done, as a CPU may have, too [ARMv7 A3.5.3, B1.9.8].
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>

#include "arch/armv7/psr.hh"
#include "hyp/emulate/condition.hh"
#include "hyp/emulate/decode.hh"
#include "mm/guest/guest_copy.hh"

namespace cadastre {

// The vCPU, and what it reaches.
template <class C>
concept EmulatedCpu = requires(C& cpu, unsigned number, std::uint32_t value, GuestVirtAddr address, unsigned size,
                               Privilege privilege, std::span<std::byte> bytes) {
  // R0..R14 of its mode.
  { cpu.get(number) } -> std::same_as<std::uint32_t>;
  cpu.set(number, value);
  { cpu.pc() } -> std::same_as<std::uint32_t>;
  cpu.set_pc(value);
  { cpu.cpsr() } -> std::same_as<std::uint32_t>;
  cpu.set_cpsr(value);
  // Its instructions.
  { cpu.fetch(address, bytes, privilege) } -> std::same_as<CopyResult>;
  // One access of 1, 2 or 4 bytes, little-endian, to RAM or a device.
  { cpu.load(address, size, privilege) } -> std::same_as<WalkResult<std::uint32_t>>;
  { cpu.store(address, size, value, privilege) } -> std::same_as<WalkResult<void>>;
};

enum class Emulation : std::uint8_t {
  kDone,     // it goes on behind the instruction
  kAgain,    // the instruction is another one by now, and would not access anything: let the CPU look again
  kUnknown,  // not an instruction that decode() knows
};
struct EmulationAbort {
  Access access;  // kExecute: a prefetch abort
  GuestVirtAddr address;
  GuestFault fault;
};

// `size` bytes of a register as they are in memory of either byte order (CPSR.E) [ARMv7 A3.3].
[[nodiscard]] constexpr std::uint32_t in_byte_order(std::uint32_t value, unsigned size, std::uint32_t cpsr) {
  if ((cpsr & arch::psr::kBigEndian) == 0) [[likely]]
    return value;
  return std::byteswap(value) >> (32 - 8 * size);
}

namespace emulation {

// The instruction, Thumb's first halfword in the low half. Instructions are little-endian always [ARMv7 A3.3.1].
template <EmulatedCpu Cpu>
[[nodiscard]] std::expected<std::uint32_t, EmulationAbort> fetch(Cpu& cpu, Privilege privilege) {
  const auto part = [&](std::uint32_t address, std::span<std::byte> bytes) -> std::expected<void, EmulationAbort> {
    const CopyResult done = cpu.fetch(GuestVirtAddr(address), bytes, privilege);
    if (done) return {};
    return std::unexpected(EmulationAbort{Access::kExecute, done.error().address, done.error().fault});
  };
  std::array<std::byte, 4> bytes{};
  const auto halfword = [&](unsigned i) {
    return std::to_integer<std::uint32_t>(bytes[2 * i]) | std::to_integer<std::uint32_t>(bytes[2 * i + 1]) << 8;
  };
  // The second halfword may be on a page that a short instruction has nothing to do with.
  const bool thumb = (cpu.cpsr() & arch::psr::kThumb) != 0;
  if (const auto done = part(cpu.pc(), std::span(bytes).first(thumb ? 2 : 4)); !done) {
    return std::unexpected(done.error());
  }
  if (thumb && is_wide(static_cast<std::uint16_t>(halfword(0)))) {
    if (const auto done = part(cpu.pc() + 2, std::span(bytes).last(2)); !done) return std::unexpected(done.error());
  }
  return halfword(0) | halfword(1) << 16;
}

template <EmulatedCpu Cpu>
[[nodiscard]] std::optional<MemoryAccess> decode(Cpu& cpu, std::uint32_t instruction) {
  std::array<std::uint32_t, 16> registers{};
  for (unsigned i = 0; i < 15; ++i) registers[i] = cpu.get(i);
  registers[15] = cpu.pc();
  if ((cpu.cpsr() & arch::psr::kThumb) == 0) return decode_arm(instruction, registers, (cpu.cpsr() >> 29 & 1) != 0);
  return decode_thumb(static_cast<std::uint16_t>(instruction), static_cast<std::uint16_t>(instruction >> 16),
                      registers);
}

// A load of PC branches, to the other state if bit 0 says so [ARMv7 A2.3.1, LoadWritePC].
template <EmulatedCpu Cpu>
void branch(Cpu& cpu, std::uint32_t target) {
  const bool thumb = (target & 1) != 0;
  cpu.set_cpsr(thumb ? cpu.cpsr() | arch::psr::kThumb : cpu.cpsr() & ~arch::psr::kThumb);
  cpu.set_pc(target & (thumb ? ~1U : ~3U));
}

}  // namespace emulation

template <EmulatedCpu Cpu>
[[nodiscard]] std::expected<Emulation, EmulationAbort> emulate_access(Cpu& cpu) {
  constexpr unsigned kPc = 15;
  const std::uint32_t cpsr = cpu.cpsr();
  if ((cpsr & arch::psr::kJazelle) != 0) return Emulation::kUnknown;  // Jazelle, ThumbEE
  const bool user = (cpsr & arch::psr::kModeMask) == arch::psr::kUser;
  const Privilege privilege = user ? Privilege::kUser : Privilege::kPrivileged;
  const auto instruction = emulation::fetch(cpu, privilege);
  if (!instruction) return std::unexpected(instruction.error());
  const bool thumb = (cpsr & arch::psr::kThumb) != 0;
  // An access that trapped had passed its condition.
  if (!(thumb ? it_passes(cpsr) : condition_passes(*instruction >> 28, cpsr))) return Emulation::kAgain;
  const std::optional<MemoryAccess> access = emulation::decode(cpu, *instruction);
  if (!access) return Emulation::kUnknown;

  const Privilege as = access->unprivileged ? Privilege::kUser : privilege;
  std::array<std::uint32_t, 16> loaded{};
  for (unsigned i = 0; i < access->count; ++i) {
    const auto address = GuestVirtAddr(access->address + i * access->size);
    const unsigned number = access->registers[i];
    if (access->load) {
      const WalkResult<std::uint32_t> value = cpu.load(address, access->size, as);
      if (!value) return std::unexpected(EmulationAbort{Access::kRead, address, value.error()});
      loaded[i] = access->loaded(in_byte_order(*value, access->size, cpsr));
    } else {
      const std::uint32_t value = number == kPc ? access->stored_pc : cpu.get(number);
      const WalkResult<void> done = cpu.store(address, access->size, in_byte_order(value, access->size, cpsr), as);
      if (!done) return std::unexpected(EmulationAbort{Access::kWrite, address, done.error()});
    }
  }
  cpu.set_cpsr(after_instruction(cpsr));
  cpu.set_pc(cpu.pc() + access->length);
  if (access->write_back) cpu.set(access->base, access->new_base);
  for (unsigned i = 0; access->load && i < access->count; ++i) {
    if (access->registers[i] == kPc) {
      emulation::branch(cpu, loaded[i]);
    } else {
      cpu.set(access->registers[i], loaded[i]);
    }
  }
  return Emulation::kDone;
}

}  // namespace cadastre
