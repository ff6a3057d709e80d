// Memory types, in the encoding of a MAIR byte, whatever format they come from; and how two stages add up.
//
//   MAIR byte:  0000 0000 Strongly-ordered   0000 0100 Device   oooo iiii Normal, outer and inner
//   cacheability:
//               0100 non-cacheable   10RW write-through   11RW write-back   (00RW and 01RW: transient)
//   R and W are allocation hints. [ARMv7 B4.1, MAIR0]
#pragma once

#include <array>
#include <cstdint>

#include "mm/descriptor.hh"
#include "mm/stage2_format.hh"

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

// Two bits of a short descriptor or of NMRR: non-cacheable; write-back write-allocate; write-through;
// write-back.
inline constexpr std::array<std::uint8_t, 4> kShortCacheability = {0x4, 0xf, 0xa, 0xe};

// TEX, C and B without remapping [ARMv7 B3.8.2]; what is reserved there reads as Strongly-ordered here.
[[nodiscard]] constexpr MemoryType short_memory_type(unsigned tex, unsigned cb, bool shareable) {
  const Shareability normal = shareable ? Shareability::kOuter : Shareability::kNone;
  if ((tex & 4) != 0) {
    return {static_cast<std::uint8_t>(kShortCacheability[tex & 3] << 4 | kShortCacheability[cb]), normal};
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

// With TEX remap: PRRR and NMRR by TEX[0], C and B [ARMv7 B3.8.3].
[[nodiscard]] constexpr MemoryType remapped_memory_type(std::uint32_t prrr, std::uint32_t nmrr, unsigned tex,
                                                        unsigned cb, bool s) {
  const unsigned n = (tex & 1) << 2 | cb;
  const unsigned type = prrr >> (2 * n) & 3;
  if (type == 0 || type == 3) return {};
  const bool shareable = (prrr >> ((type == 1 ? 16 : 18) + (s ? 1 : 0)) & 1) != 0;
  const bool not_outer = (prrr >> (24 + n) & 1) != 0;
  const Shareability shareability = !shareable  ? Shareability::kNone
                                    : not_outer ? Shareability::kInner
                                                : Shareability::kOuter;
  if (type == 1) return {kMairDevice, shareability};
  const std::uint8_t inner = kShortCacheability[nmrr >> (2 * n) & 3];
  const std::uint8_t outer = kShortCacheability[nmrr >> (2 * n + 16) & 3];
  return {static_cast<std::uint8_t>(outer << 4 | inner), shareability};
}

// Of one nibble. Stage 2 has no allocation hints: stage 1's stay [ARMv7 B3.8.5].
[[nodiscard]] constexpr std::uint8_t combined_cacheability(std::uint8_t stage1, std::uint8_t stage2) {
  if (stage1 == 0x4 || stage2 == 1) return 0x4;
  const bool through = (stage1 & 0xc) == 0 || (stage1 & 0xc) == 8;
  return static_cast<std::uint8_t>(!through && stage2 == 2 ? 0x8 | (stage1 & 3) : stage1);
}

// Strongly-ordered before Device before Normal; non-cacheable before write-through before write-back; outer
// before inner before non-shareable [ARMv7 B3.8.5].
[[nodiscard]] constexpr MemoryType combine(MemoryType stage1, Stage2Attributes stage2) {
  const auto memory = static_cast<unsigned>(stage2.memory());
  MemoryType both;
  if (!stage1.is_normal() || memory < 4) {
    const std::uint8_t second = memory < 4 ? static_cast<std::uint8_t>(memory << 2) : 0xff;
    const std::uint8_t first = stage1.is_normal() ? 0xff : stage1.mair;
    both.mair = first < second ? first : second;
  } else {
    const std::uint8_t outer = combined_cacheability(stage1.mair >> 4, static_cast<std::uint8_t>(memory >> 2));
    const std::uint8_t inner = combined_cacheability(stage1.mair & 0xf, static_cast<std::uint8_t>(memory & 3));
    both.mair = static_cast<std::uint8_t>(outer << 4 | inner);
  }
  const auto either = [&](Shareability wanted) {
    return stage1.shareability == wanted || stage2.shareability() == wanted;
  };
  const Shareability shareability = either(Shareability::kOuter)   ? Shareability::kOuter
                                    : either(Shareability::kInner) ? Shareability::kInner
                                                                   : Shareability::kNone;
  both.shareability = effective_shareability(both.mair, shareability);
  return both;
}

}  // namespace cadastre
