#include "guest/common/memory.hh"

#include <array>
#include <bit>

#include "guest/common/cpu.hh"
#include "guest/common/machine.hh"
#include "guest/common/print.hh"

extern "C" {
extern const char image_start;
extern const char text_end;
extern const char image_end;
}

namespace cadastre::guest {
namespace {

using Entry = std::uint32_t;
constexpr std::uint32_t kEntries = 4096;
constexpr std::uint32_t kPagesPerSection = kSection / kPage;
constexpr std::uint32_t kTables = 4;

alignas(0x4000) std::array<Entry, kEntries> sections;
alignas(0x400) std::array<std::array<Entry, kPagesPerSection>, kTables> tables;
std::uint32_t tables_used;

// Attributes in the places where a section has them [ARMv7 figure B3-4] and where a small page has them
// [figure B3-5]. Normal memory is write-back write-allocate (TEX = 1, C, B) and shareable; only PL1 has
// access.
struct Attributes {
  Entry section;
  Entry page;
};

constexpr Attributes attributes_of(Kind kind) {
  const bool device = kind == Kind::kDevice || kind == Kind::kExecutableDevice;
  const bool read_only = kind == Kind::kText || kind == Kind::kConstant;
  const bool execute_never = kind != Kind::kText && kind != Kind::kExecutableDevice;
  const Entry cache = device ? 1U << 2 : 3U << 2;  // C, B: the same bits in both
  const Entry tex = device ? 0 : 1;
  const Entry access = 1;  // AP[1:0]: PL1 only
  return {
      .section = 0b10U | cache | (execute_never ? 1U << 4 : 0) | access << 10 | tex << 12 | (read_only ? 1U << 15 : 0) |
                 1U << 16,
      .page = 0b10U | cache | (execute_never ? 1U : 0) | access << 4 | tex << 6 | (read_only ? 1U << 9 : 0) | 1U << 10,
  };
}
static_assert(attributes_of(Kind::kData).section == 0x1141e);
static_assert(attributes_of(Kind::kText).page == 0x65e);

Entry& page_entry(std::uint32_t address) {
  Entry& section = sections[address / kSection];
  if (section == 0) {
    if (tables_used == kTables) fail("out of second-level tables");
    section = reinterpret_cast<std::uint32_t>(&tables[tables_used++]) | 0b01U;
  }
  if ((section & 0b11U) != 0b01U) fail("small page in a section at ", Hex{address});
  auto* table = reinterpret_cast<Entry*>(section & ~0x3ffU);
  return table[address / kPage % kPagesPerSection];
}

void turn_on() {
  // Client of domain 0, which all entries are in; TTBR0 alone; walks are write-back write-allocate,
  // shareable.
  asm volatile("mcr p15, 0, %0, c3, c0, 0" ::"r"(1));                                                   // DACR
  asm volatile("mcr p15, 0, %0, c2, c0, 2" ::"r"(0));                                                   // TTBCR
  asm volatile("mcr p15, 0, %0, c2, c0, 0" ::"r"(reinterpret_cast<std::uint32_t>(&sections) | 0x4aU));  // TTBR0
  asm volatile("mcr p15, 0, %0, c7, c5, 0" ::"r"(0));                                                   // ICIALLU
  asm volatile("mcr p15, 0, %0, c8, c7, 0" ::"r"(0));                                                   // TLBIALL
  dsb();
  isb();
  std::uint32_t control;
  asm volatile("mrc p15, 0, %0, c1, c0, 0" : "=r"(control));
  control |= 1U << 12 | 1U << 11 | 1U << 2 | 1U;  // I, Z, C, M
  control &= ~(1U << 29 | 1U << 28);              // AFE, TRE: the attributes above are the classic ones
  asm volatile("mcr p15, 0, %0, c1, c0, 0" ::"r"(control) : "memory");
  isb();
}

}  // namespace

void start_second_mmu() {
  turn_on();
}

volatile std::uint32_t& section_entry(std::uint32_t address) {
  return sections[address / kSection];
}

void map_section(std::uint32_t address, Kind kind) {
  Entry& entry = sections[address / kSection];
  // The first MiB of RAM has the image in it, and small pages.
  if ((entry & 0b11U) == 0b01U) return;
  entry = (address & ~(kSection - 1)) | attributes_of(kind).section;
  dsb();
  isb();
}

void map_page(std::uint32_t address, std::uint32_t physical, Kind kind) {
  page_entry(address) = physical | attributes_of(kind).page;
  dsb();
  isb();
}

void unmap_page(std::uint32_t address) {
  page_entry(address) = 0;
  invalidate_translation(address);
}

void map_ram(std::uint64_t base, std::uint64_t end) {
  for (std::uint64_t address = base; address < end; address += kSection) {
    const auto section = static_cast<std::uint32_t>(address);
    if (end - address >= kSection) {
      map_section(section, Kind::kData);
    } else {
      for (std::uint32_t page = section; page < end; page += kPage) map_page(page, page, Kind::kData);
    }
  }
}

std::uint32_t clean_caches() {
  constexpr std::uint32_t kLevels = 7;
  constexpr std::uint32_t kDataCache = 2;  // of CLIDR.Ctype: 2 and more
  std::uint32_t operations = 0;
  dsb();
  for (std::uint32_t level = 0; level < kLevels; ++level) {
    if ((cache_levels() >> 3 * level & 7U) < kDataCache) continue;
    const std::uint32_t size = cache_size(level);
    const std::uint32_t line_shift = (size & 7U) + 4;
    const std::uint32_t ways = (size >> 3 & 0x3ffU) + 1;
    const std::uint32_t sets = (size >> 13 & 0x7fffU) + 1;
    const auto way_shift = ways == 1 ? 0 : static_cast<std::uint32_t>(std::countl_zero(ways - 1));
    for (std::uint32_t i = 0; i < sets * ways; ++i) {
      clean_and_invalidate_set_way((i % ways) << way_shift | i / ways << line_shift | level << 1);
      ++operations;
    }
  }
  dsb();
  return operations;
}

void start_mmu(std::uint32_t dtb, std::uint32_t dtb_size) {
  const auto image = reinterpret_cast<std::uint32_t>(&image_start);
  const auto text = reinterpret_cast<std::uint32_t>(&text_end);
  for (std::uint32_t page = image & ~(kSection - 1); page < (image & ~(kSection - 1)) + kSection; page += kPage) {
    map_page(page, page, page >= image && page < text ? Kind::kText : Kind::kData);
  }
  for (std::uint32_t section = dtb & ~(kSection - 1); section < dtb + dtb_size; section += kSection) {
    map_section(section, Kind::kData);
  }
  map_section(machine.uart, Kind::kDevice);
  turn_on();
}

}  // namespace cadastre::guest
