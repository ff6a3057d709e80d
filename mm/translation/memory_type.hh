// Memory types, in the encoding of a MAIR byte, whatever format they come from; and how two stages add up.
//
//   MAIR byte:  0000 0000 Strongly-ordered   0000 0100 Device   oooo iiii Normal, outer and inner
//   cacheability:
//               0100 non-cacheable   10RW write-through   11RW write-back   (00RW and 01RW: transient)
//   R and W are allocation hints. [ARMv7 B4.1, MAIR0]
#pragma once

#include <cstdint>

#include "mm/translation/descriptor.hh"
#include "mm/translation/stage2_format.hh"

namespace cadastre {

inline constexpr std::uint8_t kMairStronglyOrdered = 0x00;
inline constexpr std::uint8_t kMairDevice = 0x04;
inline constexpr std::uint8_t kMairNonCacheable = 0x44;
inline constexpr std::uint8_t kMairWriteThrough = 0xaa;  // read-allocate
inline constexpr std::uint8_t kMairWriteBack = 0xff;     // read- and write-allocate

struct MemoryType {
  std::uint8_t mair = kMairStronglyOrdered;
  Shareability shareability = Shareability::kOuter;

  [[nodiscard]] constexpr bool is_normal() const { return (mair & 0xf0) != 0; }
  friend constexpr bool operator==(MemoryType, MemoryType) = default;
};

// Device, Strongly-ordered and non-cacheable memory are outer shareable, whatever their descriptor says.
[[nodiscard]] constexpr Shareability effective_shareability(std::uint8_t mair, Shareability shareability) {
  return (mair & 0xf0) == 0 || mair == kMairNonCacheable ? Shareability::kOuter : shareability;
}

// Two bits of a short descriptor or of NMRR: non-cacheable; write-back write-allocate; write-through; write-back.
[[nodiscard]] constexpr unsigned short_cacheability(unsigned bits) {
  return 0xeaf4U >> (4 * (bits & 3)) & 0xf;
}

// TEX, C and B without remapping [ARMv7 B3.8.2]; what is reserved there reads as Strongly-ordered here.
[[nodiscard]] constexpr MemoryType short_memory_type(unsigned tex, unsigned cb, bool shareable) {
  const Shareability normal = shareable ? Shareability::kOuter : Shareability::kNone;
  if ((tex & 4) != 0) {
    return {static_cast<std::uint8_t>(short_cacheability(tex) << 4 | short_cacheability(cb)), normal};
  }
  switch (tex << 2 | cb) {
    case 0b00001:
    case 0b01000:
      return {kMairDevice, Shareability::kOuter};
    case 0b00010:
      return {kMairWriteThrough, normal};
    case 0b00011:
      return {0xee, normal};
    case 0b00100:
      return {kMairNonCacheable, normal};
    case 0b00111:
      return {kMairWriteBack, normal};
    default:
      return {};
  }
}

// With TEX remap: PRRR and NMRR by n = TEX[0], C, B [ARMv7 B3.8.3]. Device memory is outer shareable in the end,
// whatever PRRR.DS0 and DS1 say.
[[nodiscard]] constexpr MemoryType remapped_memory_type(std::uint32_t prrr, std::uint32_t nmrr, unsigned n, bool s) {
  const unsigned type = prrr >> (2 * n) & 3;
  if (type != 2) [[unlikely]]
    return {type == 1 ? kMairDevice : kMairStronglyOrdered, Shareability::kOuter};
  const std::uint32_t cacheability = nmrr >> (2 * n);
  const unsigned mair = short_cacheability(cacheability >> 16) << 4 | short_cacheability(cacheability);
  const bool shareable = (prrr >> (s ? 19 : 18) & 1) != 0;
  const bool not_outer = (prrr >> (24 + n) & 1) != 0;
  return {static_cast<std::uint8_t>(mair), !shareable  ? Shareability::kNone
                                           : not_outer ? Shareability::kInner
                                                       : Shareability::kOuter};
}

// Of one nibble. Stage 2 has no allocation hints: stage 1's stay [ARMv7 B3.8.5].
[[nodiscard]] constexpr std::uint8_t combined_cacheability(std::uint8_t stage1, std::uint8_t stage2) {
  if (stage1 == 0x4 || stage2 == 1) return 0x4;
  const bool through = (stage1 & 0xc) == 0 || (stage1 & 0xc) == 8;
  return static_cast<std::uint8_t>(!through && stage2 == 2 ? 0x8 | (stage1 & 3) : stage1);
}

// Strongly-ordered before Device before Normal; non-cacheable before write-through before write-back; outer
// before inner before non-shareable [ARMv7 B3.8.5].
[[nodiscard]] constexpr Shareability combine(Shareability a, Shareability b) {
  if (a == Shareability::kOuter || b == Shareability::kOuter) return Shareability::kOuter;
  return a == Shareability::kInner || b == Shareability::kInner ? Shareability::kInner : Shareability::kNone;
}
[[nodiscard]] constexpr std::uint8_t combined_mair(std::uint8_t mair, Stage2Memory second_stage) {
  if (second_stage == Stage2Memory::kNormal) [[likely]]
    return mair;
  const auto second = static_cast<unsigned>(second_stage);
  const bool first_normal = (mair & 0xf0) != 0;
  if (second < 4) return static_cast<std::uint8_t>(first_normal || second * 4 < mair ? second * 4 : mair);
  if (!first_normal) return mair;
  const std::uint8_t outer = combined_cacheability(mair >> 4, static_cast<std::uint8_t>(second >> 2));
  const std::uint8_t inner = combined_cacheability(mair & 0xf, static_cast<std::uint8_t>(second & 3));
  return static_cast<std::uint8_t>(outer << 4 | inner);
}
[[nodiscard]] constexpr MemoryType combine(MemoryType stage1, Stage2Attributes stage2) {
  // Nearly always stage 2 is ordinary RAM, which takes nothing away.
  if (stage2.has_type_of(Stage2Attributes::ram())) [[likely]] {
    const bool outer = stage1.shareability == Shareability::kOuter;
    return {stage1.mair, effective_shareability(stage1.mair, outer ? Shareability::kOuter : Shareability::kInner)};
  }
  const std::uint8_t mair = combined_mair(stage1.mair, stage2.memory());
  return {mair, effective_shareability(mair, combine(stage1.shareability, stage2.shareability()))};
}

}  // namespace cadastre
