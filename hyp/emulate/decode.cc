#include "hyp/emulate/decode.hh"

#include <bit>

namespace cadastre {
namespace {

using Access = std::optional<MemoryAccess>;

constexpr unsigned kPc = 15;
constexpr unsigned kSp = 13;

constexpr bool bit(std::uint32_t value, unsigned n) {
  return (value >> n & 1) != 0;
}
constexpr unsigned field(std::uint32_t value, unsigned high, unsigned low) {
  return value >> low & ((1U << (high - low + 1)) - 1);
}

// How a base and an offset make an address and, perhaps, a new base: P, U and W of most encodings.
struct Indexing {
  bool before;      // P: the offset is added before the access
  bool up;          // U
  bool write_back;  // W, or not P
};

// Of one or two units from `address` on, at base +- offset.
MemoryAccess single(std::uint32_t base_value, unsigned base, std::uint32_t offset, Indexing indexing) {
  MemoryAccess access;
  const std::uint32_t moved = indexing.up ? base_value + offset : base_value - offset;
  access.address = indexing.before ? moved : base_value;
  access.base = static_cast<std::uint8_t>(base);
  access.write_back = indexing.write_back;
  access.new_base = moved;
  return access;
}

void add_register(MemoryAccess& access, unsigned number) {
  access.registers[access.count++] = static_cast<std::uint8_t>(number);
}

// LDM, STM, PUSH, POP [ARMv7 A8.8.58, A8.8.199]: registers from the lowest up, addresses too.
Access block(bool load, unsigned base, std::uint32_t base_value, std::uint32_t list, Indexing indexing) {
  if (list == 0 || base == kPc) return std::nullopt;
  const auto bytes = static_cast<std::uint32_t>(4 * std::popcount(list));
  MemoryAccess access;
  access.load = load;
  access.base = static_cast<std::uint8_t>(base);
  access.new_base = indexing.up ? base_value + bytes : base_value - bytes;
  access.address = indexing.up ? base_value : access.new_base;
  if (indexing.before == indexing.up) access.address += 4;  // IB, DA
  // A base that is loaded keeps what was loaded.
  access.write_back = indexing.write_back && !(load && bit(list, base));
  for (unsigned i = 0; i < 16; ++i) {
    if (bit(list, i)) add_register(access, i);
  }
  return access;
}

// An immediate shift of a register offset [ARMv7 A8.4.3].
std::uint32_t shifted(std::uint32_t value, unsigned type, unsigned amount, bool carry) {
  switch (type) {
    case 0:
      return value << amount;
    case 1:
      return amount == 0 ? 0 : value >> amount;
    case 2: {
      const auto by = static_cast<int>(amount == 0 ? 31 : amount);
      return static_cast<std::uint32_t>(static_cast<std::int32_t>(value) >> by);
    }
    default:
      return amount == 0 ? std::uint32_t{carry} << 31 | value >> 1 : std::rotr(value, static_cast<int>(amount));
  }
}

// ---- ARM

std::uint32_t arm_value(Registers registers, unsigned number) {
  return number == kPc ? registers[kPc] + 8 : registers[number];
}

Indexing arm_indexing(std::uint32_t instruction) {
  const bool before = bit(instruction, 24);
  return {before, bit(instruction, 23), !before || bit(instruction, 21)};
}
// P clear and W set: LDRT, STRT and their kind.
bool arm_unprivileged(std::uint32_t instruction) {
  return !bit(instruction, 24) && bit(instruction, 21);
}

// Write-back to PC, or to the register that is transferred, is UNPREDICTABLE.
bool is_odd_write_back(const MemoryAccess& access) {
  if (!access.write_back) return false;
  bool odd = access.base == kPc;
  for (unsigned i = 0; i < access.count; ++i) odd = odd || access.registers[i] == access.base;
  return odd;
}
Access unless_odd(const MemoryAccess& access) {
  if (is_odd_write_back(access)) return std::nullopt;
  return access;
}

// LDR, STR, LDRB, STRB [ARMv7 A5.3].
Access arm_word_or_byte(std::uint32_t instruction, Registers registers, bool carry) {
  const unsigned base = field(instruction, 19, 16);
  std::uint32_t offset = field(instruction, 11, 0);
  if (bit(instruction, 25)) {
    if (bit(instruction, 4) || field(instruction, 3, 0) == kPc) return std::nullopt;
    offset = shifted(registers[field(instruction, 3, 0)], field(instruction, 6, 5), field(instruction, 11, 7), carry);
  }
  MemoryAccess access = single(arm_value(registers, base), base, offset, arm_indexing(instruction));
  access.load = bit(instruction, 20);
  access.size = bit(instruction, 22) ? 1 : 4;
  access.unprivileged = arm_unprivileged(instruction);
  add_register(access, field(instruction, 15, 12));
  return unless_odd(access);
}

// LDRH, STRH, LDRSB, LDRSH, LDRD, STRD [ARMv7 A5.2.8].
Access arm_extra(std::uint32_t instruction, Registers registers) {
  const unsigned op = field(instruction, 6, 5);
  const unsigned base = field(instruction, 19, 16);
  const unsigned target = field(instruction, 15, 12);
  std::uint32_t offset = field(instruction, 11, 8) << 4 | field(instruction, 3, 0);
  if (!bit(instruction, 22)) {
    if (field(instruction, 11, 8) != 0 || field(instruction, 3, 0) == kPc) return std::nullopt;
    offset = registers[field(instruction, 3, 0)];
  }
  MemoryAccess access = single(arm_value(registers, base), base, offset, arm_indexing(instruction));
  access.unprivileged = arm_unprivileged(instruction);
  add_register(access, target);
  if (!bit(instruction, 20) && op != 1) {  // LDRD, STRD
    if (access.unprivileged || target % 2 != 0 || target == 14) return std::nullopt;
    access.load = op == 2;
    add_register(access, target + 1);
    return unless_odd(access);
  }
  if (target == kPc) return std::nullopt;
  access.load = bit(instruction, 20);
  access.size = op == 2 ? 1 : 2;
  access.sign_extend = op != 1;
  return unless_odd(access);
}

// ---- Thumb

// A base of PC is rounded down to a word.
std::uint32_t thumb_value(Registers registers, unsigned number) {
  return number == kPc ? (registers[kPc] + 4) & ~3U : registers[number];
}

MemoryAccess thumb_offset(Registers registers, unsigned base, std::uint32_t offset) {
  return single(thumb_value(registers, base), base, offset, {true, true, false});
}

// 0101: a register offset. By bits 11..9: STR STRH STRB LDRSB LDR LDRH LDRB LDRSH [ARMv7 A6.2.4].
MemoryAccess narrow_register(std::uint32_t i, Registers registers) {
  static constexpr std::array<std::uint8_t, 8> kSize = {4, 2, 1, 1, 4, 2, 1, 2};
  const unsigned op = field(i, 11, 9);
  MemoryAccess access = thumb_offset(registers, field(i, 5, 3), registers[field(i, 8, 6)]);
  access.load = op >= 3;
  access.size = kSize[op];
  access.sign_extend = op == 3 || op == 7;
  add_register(access, field(i, 2, 0));
  return access;
}

// 011 and 1000: 5 bits of offset, in units.
MemoryAccess narrow_immediate(std::uint32_t i, Registers registers) {
  const unsigned size = field(i, 15, 12) == 0b1000 ? 2 : field(i, 15, 12) == 0b0111 ? 1 : 4;
  MemoryAccess access = thumb_offset(registers, field(i, 5, 3), field(i, 10, 6) * size);
  access.load = bit(i, 11);
  access.size = static_cast<std::uint8_t>(size);
  add_register(access, field(i, 2, 0));
  return access;
}

Access narrow(std::uint32_t i, Registers registers) {
  switch (field(i, 15, 12)) {
    case 0b0100: {
      if (!bit(i, 11)) return std::nullopt;
      MemoryAccess access = thumb_offset(registers, kPc, field(i, 7, 0) * 4);
      access.load = true;
      add_register(access, field(i, 10, 8));
      return access;
    }
    case 0b0101:
      return narrow_register(i, registers);
    case 0b0110:
    case 0b0111:
    case 0b1000:
      return narrow_immediate(i, registers);
    case 0b1001: {
      MemoryAccess access = thumb_offset(registers, kSp, field(i, 7, 0) * 4);
      access.load = bit(i, 11);
      add_register(access, field(i, 10, 8));
      return access;
    }
    case 0b1011: {
      const std::uint32_t list = field(i, 7, 0);
      if (field(i, 11, 9) == 0b010) {
        return block(false, kSp, registers[kSp], list | std::uint32_t{bit(i, 8)} << 14, {true, false, true});
      }
      if (field(i, 11, 9) == 0b110) {
        return block(true, kSp, registers[kSp], list | std::uint32_t{bit(i, 8)} << 15, {false, true, true});
      }
      return std::nullopt;
    }
    case 0b1100: {
      const unsigned base = field(i, 10, 8);
      return block(bit(i, 11), base, registers[base], field(i, 7, 0), {false, true, true});
    }
    default:
      return std::nullopt;
  }
}

// LDM, STM; LDRD, STRD [ARMv7 A6.3.5, A6.3.6].
Access wide_multiple(std::uint32_t i, std::uint32_t j, Registers registers) {
  const unsigned base = field(i, 3, 0);
  const bool load = bit(i, 4);
  if (!bit(i, 6)) {
    const bool before = bit(i, 8);
    const bool up = bit(i, 7);
    if (before == up || bit(j, kSp) || (!load && bit(j, kPc))) return std::nullopt;  // SRS, RFE; UNPREDICTABLE
    return block(load, base, registers[base], j, {before, up, bit(i, 5)});
  }
  const Indexing indexing{bit(i, 8), bit(i, 7), bit(i, 5)};
  if (!indexing.before && !indexing.write_back) return std::nullopt;  // exclusive, table branch
  MemoryAccess access = single(thumb_value(registers, base), base, field(j, 7, 0) * 4, indexing);
  access.load = load;
  add_register(access, field(j, 15, 12));
  add_register(access, field(j, 11, 8));
  return unless_odd(access);
}

// One register [ARMv7 A6.3.7 to A6.3.10].
Access wide_single(std::uint32_t i, std::uint32_t j, Registers registers) {
  const unsigned base = field(i, 3, 0);
  const unsigned target = field(j, 15, 12);
  const unsigned size = field(i, 6, 5);
  const bool load = bit(i, 4);
  const bool sign = bit(i, 8);
  // Undefined; SIMD; a hint; no store relative to PC.
  if (size == 3 || (sign && (!load || size == 2)) || (target == kPc && size != 2)) return std::nullopt;
  if (!load && (base == kPc || target == kPc)) return std::nullopt;

  MemoryAccess access;
  if (base == kPc) {
    access = single(thumb_value(registers, kPc), kPc, field(j, 11, 0), {true, bit(i, 7), false});
  } else if (bit(i, 7)) {
    access = thumb_offset(registers, base, field(j, 11, 0));
  } else if (bit(j, 11)) {
    const Indexing indexing{bit(j, 10), bit(j, 9), bit(j, 8)};
    if (!indexing.before && !indexing.write_back) return std::nullopt;
    access = single(registers[base], base, field(j, 7, 0), indexing);
    access.unprivileged = indexing.before && indexing.up && !indexing.write_back;
  } else if (field(j, 11, 6) == 0) {
    if (field(j, 3, 0) == kPc) return std::nullopt;
    access = thumb_offset(registers, base, registers[field(j, 3, 0)] << field(j, 5, 4));
  } else {
    return std::nullopt;
  }
  access.load = load;
  access.size = static_cast<std::uint8_t>(1U << size);
  access.sign_extend = sign;
  add_register(access, target);
  return unless_odd(access);
}

}  // namespace

std::optional<MemoryAccess> decode_arm(std::uint32_t instruction, Registers registers, bool carry) {
  if (field(instruction, 31, 28) == 0xf) return std::nullopt;
  Access access;
  if (field(instruction, 27, 26) == 1) {
    access = arm_word_or_byte(instruction, registers, carry);
  } else if (field(instruction, 27, 25) == 0 && bit(instruction, 7) && bit(instruction, 4) &&
             field(instruction, 6, 5) != 0) {
    access = arm_extra(instruction, registers);
  } else if (field(instruction, 27, 25) == 4 && !bit(instruction, 22)) {
    const unsigned base = field(instruction, 19, 16);
    access = block(bit(instruction, 20), base, arm_value(registers, base), field(instruction, 15, 0),
                   {bit(instruction, 24), bit(instruction, 23), bit(instruction, 21)});
  }
  if (access) access->stored_pc = registers[kPc] + 8;
  return access;
}

std::optional<MemoryAccess> decode_thumb(std::uint16_t first, std::uint16_t second, Registers registers) {
  if (!is_wide(first)) {
    Access access = narrow(first, registers);
    if (access) access->length = 2;
    return access;
  }
  if (field(first, 15, 9) == 0b1110100) return wide_multiple(first, second, registers);
  if (field(first, 15, 9) == 0b1111100) return wide_single(first, second, registers);
  return std::nullopt;
}

}  // namespace cadastre
