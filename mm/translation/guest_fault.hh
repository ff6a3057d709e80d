// Faults of a guest's translation, and how they are written down: DFSR and IFSR in both formats [ARMv7
// B3.13.3, B3.13.4], and the 64-bit PAR of an ATS12NSO* operation [ARMv7 B4.1, PAR].
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "mm/base/access.hh"
#include "mm/base/address.hh"

namespace cadastre {

enum class FaultKind : std::uint8_t {
  kTranslation,     // nothing is mapped
  kAccessFlag,      // mapped, with the access flag clear
  kDomain,          // short descriptors: the domain may not be accessed
  kPermission,      // mapped, but not for this
  kExternalOnWalk,  // there is nothing where the table should be
  // Not of a walk; for what injects an abort.
  kExternal,
  kAlignment,
};

[[nodiscard]] constexpr std::string_view to_string(FaultKind kind) {
  constexpr std::array<std::string_view, 7> kNames = {
      "translation", "access flag", "domain", "permission", "external abort on walk", "external abort", "alignment"};
  return kNames[static_cast<std::size_t>(kind)];
}

struct GuestFault {
  FaultKind kind = FaultKind::kTranslation;
  std::uint8_t level = 1;       // of the lookup that failed; the leaf's for what is mapped
  std::uint8_t domain = 0;      // short descriptors, as far as it is known
  bool stage2 = false;          // not the guest's own: its IPA is not mapped, or not for this
  bool on_walk = false;         // stage 2, on the fetch of a stage-1 descriptor ...
  std::uint8_t walk_level = 0;  // ... of this level
  IpaAddr ipa = {};             // stage 2: the address that failed
  friend constexpr bool operator==(const GuestFault&, const GuestFault&) = default;
};

inline constexpr std::uint32_t kFsrLong = 1U << 9;
inline constexpr std::uint32_t kDfsrWrite = 1U << 11;

// STATUS, 6 bits [ARMv7 B3.13.3, Long-descriptor encodings].
[[nodiscard]] constexpr std::uint32_t long_status(const GuestFault& fault) {
  switch (fault.kind) {
    case FaultKind::kTranslation:
      return 0b000100U | fault.level;
    case FaultKind::kAccessFlag:
      return 0b001000U | fault.level;
    case FaultKind::kPermission:
      return 0b001100U | fault.level;
    case FaultKind::kExternalOnWalk:
      return 0b010100U | fault.level;
    case FaultKind::kDomain:
      return 0b111100U | fault.level;  // in PAR only
    case FaultKind::kExternal:
      return 0b010000U;
    case FaultKind::kAlignment:
      return 0b100001U;
  }
  return 0;
}

// FS, 5 bits [ARMv7 B3.13.3, Short-descriptor encodings]. Levels 1 and 2.
[[nodiscard]] constexpr std::uint32_t short_status(const GuestFault& fault) {
  const bool first = fault.level < 2;
  switch (fault.kind) {
    case FaultKind::kTranslation:
      return first ? 0b00101U : 0b00111U;
    case FaultKind::kAccessFlag:
      return first ? 0b00011U : 0b00110U;
    case FaultKind::kDomain:
      return first ? 0b01001U : 0b01011U;
    case FaultKind::kPermission:
      return first ? 0b01101U : 0b01111U;
    case FaultKind::kExternalOnWalk:
      return first ? 0b01100U : 0b01110U;
    case FaultKind::kExternal:
      return 0b01000U;
    case FaultKind::kAlignment:
      return 0b00001U;
  }
  return 0;
}

[[nodiscard]] constexpr std::uint32_t ifsr_of(const GuestFault& fault, bool long_format) {
  if (long_format) return kFsrLong | long_status(fault);
  const std::uint32_t status = short_status(fault);
  return (status & 0x10) << 6 | (status & 0xf);
}
[[nodiscard]] constexpr std::uint32_t dfsr_of(const GuestFault& fault, bool long_format, Access access) {
  const std::uint32_t write = access == Access::kWrite ? kDfsrWrite : 0;
  if (long_format) return ifsr_of(fault, true) | write;
  return ifsr_of(fault, false) | std::uint32_t{fault.domain} << 4 | write;
}

// The format that the CPU uses in HYP, and when HCR.VM is set.
[[nodiscard]] constexpr std::uint64_t par_of(const GuestFault& fault) {
  return std::uint64_t{fault.stage2} << 9 | std::uint64_t{fault.on_walk} << 8 | 1U << 11 | long_status(fault) << 1 | 1U;
}

static_assert(dfsr_of({.kind = FaultKind::kPermission, .level = 2, .domain = 3}, false, Access::kWrite) == 0x83f);
static_assert(dfsr_of({.kind = FaultKind::kTranslation, .level = 3}, true, Access::kRead) == 0x207);
static_assert(ifsr_of({.kind = FaultKind::kAccessFlag, .level = 1}, false) == 0x3);

}  // namespace cadastre
