// This guest's own translation tables: short descriptors, two levels [ARMv7 B3.5], virtual = physical but in
// the window.
//
//   TTBR0 -> first level, 4096 x 1 MiB:  invalid
//                                        section of 1 MiB                 RAM, devices
//                                        table -> 256 x 4 KiB small page  the image, a last part of a MiB,
//                                        the window
#pragma once

#include <cstdint>

namespace cadastre::guest {

inline constexpr std::uint32_t kPage = 0x1000;
inline constexpr std::uint32_t kSection = 0x10'0000;
inline constexpr std::uint32_t kWordsPerPage = kPage / sizeof(std::uint32_t);

enum class Kind : std::uint8_t { kData, kText, kConstant, kDevice, kExecutableDevice };

// Maps the image, the DTB and the console, and turns the MMU and the caches on.
void start_mmu(std::uint32_t dtb, std::uint32_t dtb_size);

// The same on a CPU that comes up when the tables are there.
extern "C" void start_second_mmu();

// The first-level entry of an address, for who writes what is no mapping of this kernel's: whoever uses it tells the TLB.
volatile std::uint32_t& section_entry(std::uint32_t address);

// `address` is in a MiB that has no mapping yet, or has one of the same kind already.
void map_section(std::uint32_t address, Kind kind);
void map_page(std::uint32_t address, std::uint32_t physical, Kind kind);
void unmap_page(std::uint32_t address);
// RAM from `base` to before `end` (at most 4 GiB): sections, and small pages where a MiB is not whole.
void map_ram(std::uint64_t base, std::uint64_t end);

// Cleans and invalidates all data caches by set and way. Returns how many operations that took.
std::uint32_t clean_caches();

// The words of a page. What is behind them changes behind the compiler's back.
inline volatile std::uint32_t* words_at(std::uint32_t address) {
  return reinterpret_cast<volatile std::uint32_t*>(address);
}

}  // namespace cadastre::guest
