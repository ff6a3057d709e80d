// Instructions that access memory, decoded so that their accesses can be done for the guest: what a trapped access is
// when the CPU gives no syndrome for it (HSR.ISV 0: LDM and STM, LDRD and STRD, base write-back [ARMv7 B3.13.6]).
//
//   instruction + registers  ->  address, register, register, ...   one unit of `size` bytes after the other
//                                and the base register's new value
//
// Pure logic: the caller has fetched the instruction and does the accesses.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

namespace cadastre {

struct MemoryAccess {
  bool load = false;
  bool sign_extend = false;
  bool unprivileged = false;                 // LDRT and its kind: with PL0's rights
  std::uint8_t size = 4;                     // of a unit: 1, 2 or 4
  std::uint8_t count = 0;                    // of units
  std::uint8_t length = 4;                   // of the instruction: 2 or 4
  std::uint32_t address = 0;                 // of the first unit; wraps at 2^32 as the CPU does
  std::array<std::uint8_t, 16> registers{};  // by unit; 15 is PC: a load of it branches (bit 0 selects Thumb)
  std::uint8_t base = 0;
  bool write_back = false;  // after the last access, new_base goes to register `base`
  std::uint32_t new_base = 0;
  std::uint32_t stored_pc = 0;  // what a store of PC stores

  // What a load leaves in its register.
  [[nodiscard]] std::uint32_t loaded(std::uint32_t value) const {
    if (size == 4) return value;
    const unsigned shift = 32U - 8U * size;
    if (!sign_extend) return value << shift >> shift;
    return static_cast<std::uint32_t>(static_cast<std::int32_t>(value << shift) >> static_cast<int>(shift));
  }
};

// R0..R14 of the mode that the instruction ran in, and its own address as R15.
using Registers = std::span<const std::uint32_t, 16>;

// Nothing: not an access to memory, or one that is not emulated: exclusive, SWP, coprocessor and SIMD registers, the
// user registers (LDM ^), PLD, SRS, RFE, and encodings that are UNDEFINED or UNPREDICTABLE.
[[nodiscard]] std::optional<MemoryAccess> decode_arm(std::uint32_t instruction, Registers registers, bool carry);
// `second` is ignored by a 16-bit instruction.
[[nodiscard]] std::optional<MemoryAccess> decode_thumb(std::uint16_t first, std::uint16_t second, Registers registers);

// Whether a Thumb instruction that begins like this has two halfwords [ARMv7 A6.1].
[[nodiscard]] constexpr bool is_wide(std::uint16_t first) {
  return (first >> 11) >= 0b11101;
}

}  // namespace cadastre
