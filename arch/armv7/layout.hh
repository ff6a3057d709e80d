// HYP's virtual address space: 4 GiB with one root, HTTBR [ARMv7 B3.6.1]. ARCHITECTURE.md has this picture
// too; the assertions below are its facts.
//
//   0x0000_0000  nothing: a null pointer faults                                          1 GiB
//   0x4000_0000  linear map of low memory, from the first GiB-aligned address of RAM     2 GiB
//   0xC000_0000  vmalloc and ioremap, a guard page after each                            512 MiB
//   0xE000_0000  stacks of the CPUs, a guard page under each                             16 MiB
//   0xF000_0000  kmap: a window of 16 pages for each CPU                                 2 MiB
//   0xFE00_0000  fixmap: the DTB while it is read, the console's UART                    6 MiB
//   0xFF00_0000  the image: text RX, rodata RO, data and bss RW                          2 MiB
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "mm/base/address.hh"
#include "mm/base/machine.hh"
#include "mm/boot/fixmap_slot.hh"
#include "mm/frames/kmap.hh"

namespace cadastre::layout {

inline constexpr std::uint32_t kGiB = 1U << 30;

inline constexpr std::uint32_t kLinear = 0x4000'0000;
inline constexpr std::uint32_t kLinearSize = 2 * kGiB;
inline constexpr std::uint32_t kVmalloc = 0xc000'0000;
inline constexpr std::uint32_t kVmallocSize = 512U << 20;
inline constexpr std::uint32_t kStacks = 0xe000'0000;
inline constexpr std::uint32_t kStackSize = 4 * kPageSize;  // its lowest page is the guard
inline constexpr std::uint32_t kKmap = 0xf000'0000;
inline constexpr std::uint32_t kKmapPagesPerCpu = KmapStack::kWindows;
inline constexpr std::uint32_t kFixmap = 0xfe00'0000;
inline constexpr std::uint32_t kImage = 0xff00'0000;  // also in cadastre.ld
inline constexpr std::uint32_t kImageSize = kBlockSize;

// 1 GiB blocks need both addresses aligned to 1 GiB.
static_assert(kLinear % kGiB == 0);
static_assert(kLinear + kLinearSize <= kVmalloc && kVmalloc + kVmallocSize <= kStacks);
static_assert(kStacks + kMaxCpus * kStackSize <= kKmap);
static_assert(kKmap + kMaxCpus * kKmapPagesPerCpu * kPageSize <= kFixmap);
// The boot tables describe everything above 3 GiB with one level-2 table.
static_assert(kFixmap >= 3 * std::uint64_t{kGiB} && kImage >= 3 * std::uint64_t{kGiB});
// ... and the image with one level-3 table.
static_assert(kImage % kBlockSize == 0 && kImageSize <= kBlockSize);

// The fixmap's slots.
enum class Fixmap : std::uint8_t {
  kDtb,   // until it has been read: up to 2 MiB at any alignment; the boot tables map it in blocks
  kUart,  // the console's registers: alone in its 2 MiB, for which the boot tables have a level-3 table
};
inline constexpr std::array kFixmapSlots = {
    FixmapSlot{.start = kFixmap, .size = 2 * kBlockSize, .granule = kBlockSize},
    FixmapSlot{.start = kFixmap + 2 * kBlockSize, .size = kBlockSize, .granule = kPageSize},
};
[[nodiscard]] constexpr const FixmapSlot& slot(Fixmap name) {
  return kFixmapSlots[static_cast<std::size_t>(name)];
}
static_assert(are_apart(kFixmapSlots) && kFixmapSlots.back().end() <= kImage);

}  // namespace cadastre::layout
