// The syndrome of a trap into HYP mode [ARMv7 B3.13.6, B4.1.67].
#pragma once

#include <cstdint>

namespace cadastre::arch {

enum class ExceptionClass : std::uint8_t {
  kUnknown = 0x00,
  kWfx = 0x01,
  kCp15_32 = 0x03,
  kCp15_64 = 0x04,
  kCp14_32 = 0x05,
  kCp14Ldc = 0x06,
  kFloatingPoint = 0x07,  // HCPTR traps, cp0-cp13
  kVmrs = 0x08,
  kJazelle = 0x09,
  kCp14_64 = 0x0c,
  kSvc = 0x11,
  kHvc = 0x12,
  kSmc = 0x13,
  kPrefetchAbort = 0x20,
  kPrefetchAbortHyp = 0x21,
  kDataAbort = 0x24,
  kDataAbortHyp = 0x25,
};

class Syndrome {
 public:
  explicit constexpr Syndrome(std::uint32_t value) : value_(value) {}
  [[nodiscard]] constexpr std::uint32_t value() const { return value_; }
  [[nodiscard]] constexpr ExceptionClass exception_class() const { return static_cast<ExceptionClass>(value_ >> 26); }
  // Bytes of the trapped instruction.
  [[nodiscard]] constexpr std::uint32_t instruction_length() const { return bit(25) ? 4 : 2; }

  // Traps of instructions that may be conditional [ARMv7 B3.13.6 "ISS encoding for trapped ... accesses"].
  [[nodiscard]] constexpr bool condition_valid() const { return bit(24); }
  [[nodiscard]] constexpr unsigned condition() const { return field(20, 4); }

  // MCR, MRC: the register, and which way.
  [[nodiscard]] constexpr bool is_read() const { return bit(0); }
  [[nodiscard]] constexpr unsigned rt() const { return field(5, 4); }
  [[nodiscard]] constexpr unsigned rt2() const { return field(10, 4); }
  [[nodiscard]] constexpr unsigned op1() const { return field(14, 3); }
  [[nodiscard]] constexpr unsigned crn() const { return field(10, 4); }
  [[nodiscard]] constexpr unsigned crm() const { return field(1, 4); }
  [[nodiscard]] constexpr unsigned op2() const { return field(17, 3); }
  [[nodiscard]] constexpr unsigned op1_64() const { return field(16, 4); }

  // Data aborts from a guest.
  [[nodiscard]] constexpr bool access_valid() const { return bit(24); }  // ISV: the fields below hold
  [[nodiscard]] constexpr unsigned access_size() const { return 1U << field(22, 2); }
  [[nodiscard]] constexpr bool sign_extends() const { return bit(21); }
  [[nodiscard]] constexpr unsigned access_register() const { return field(16, 4); }
  // Aborts of either kind.
  [[nodiscard]] constexpr bool external() const { return bit(9); }
  [[nodiscard]] constexpr bool cache_maintenance() const { return bit(8); }
  [[nodiscard]] constexpr bool stage1_walk() const { return bit(7); }  // S1PTW: on a fetch of the guest's own tables
  [[nodiscard]] constexpr bool is_write() const { return bit(6); }
  [[nodiscard]] constexpr unsigned fault_status() const { return field(0, 6); }
  // Translation fault, any level: 0b0001LL; permission fault: 0b0011LL [ARMv7 table B3-24].
  [[nodiscard]] constexpr bool translation_fault() const { return (fault_status() & 0x3c) == 0x04; }
  [[nodiscard]] constexpr bool permission_fault() const { return (fault_status() & 0x3c) == 0x0c; }

  [[nodiscard]] constexpr std::uint32_t hvc_immediate() const { return field(0, 16); }
  [[nodiscard]] constexpr bool is_wfe() const { return bit(0); }

 private:
  [[nodiscard]] constexpr std::uint32_t field(unsigned low, unsigned width) const {
    return (value_ >> low) & ((1U << width) - 1);
  }
  [[nodiscard]] constexpr bool bit(unsigned position) const { return field(position, 1) != 0; }

  std::uint32_t value_;
};

}  // namespace cadastre::arch
