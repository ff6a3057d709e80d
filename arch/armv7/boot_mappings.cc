#include "arch/armv7/boot_mappings.hh"

#include "arch/armv7/barrier.hh"
#include "arch/armv7/boot_tables.h"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/layout.hh"
#include "mm/translation/descriptor.hh"
#include "mm/translation/hyp_table.hh"

extern "C" cadastre::Entry boot_tables[];  // entry.S: BOOT_TABLES_PAGES pages

namespace cadastre::arch {
namespace {

static_assert(MAIR0_VALUE == kHmair0 && MAIR1_VALUE == kHmair1 && TCR_VALUE == kHtcr);
static_assert(DESC_NORMAL_PAGE == (HypAttributes::boot().bits() | 3));
static_assert((DESC_DEVICE_PAGE | kExecuteNever) == (HypAttributes::device().bits() | 3));

Entry* table(std::size_t offset) {
  return boot_tables + offset / sizeof(Entry);
}

// The slot is written for the first time, so there is nothing to invalidate.
void write(Entry* entry, Entry value) {
  *static_cast<volatile Entry*>(entry) = value;
  dsb();
  isb();
}

}  // namespace

const std::byte* map_boot_dtb(PhysAddr dtb) {
  constexpr const FixmapSlot& kSlot = layout::slot(layout::Fixmap::kDtb);
  constexpr unsigned kIndex = (kSlot.start >> kBlockShift) % kEntriesPerTable;
  const PhysAddr block = dtb.aligned_down(kBlockSize);
  for (unsigned i = 0; i < kSlot.size / kBlockSize; ++i) {
    write(table(BOOT_L2_HIGH) + kIndex + i, (block + i * kBlockSize).value() | DESC_NORMAL_BLOCK | kExecuteNever);
  }
  return reinterpret_cast<const std::byte*>(kSlot.address_of(dtb));
}

void* map_boot_uart(PhysAddr registers) {
  constexpr const FixmapSlot& kSlot = layout::slot(layout::Fixmap::kUart);
  constexpr unsigned kIndex = (kSlot.start >> kBlockShift) % kEntriesPerTable;
  const std::uint64_t offset = reinterpret_cast<std::uintptr_t>(table(BOOT_L3_UART)) - layout::kImage;
  // The table's physical address: the image's first page is what entry 0 of its level-3 table maps.
  const PhysAddr image = entry_address(table(BOOT_L3_IMAGE)[0]);
  write(table(BOOT_L3_UART), registers.aligned_down(kPageSize).value() | DESC_DEVICE_PAGE | kExecuteNever);
  write(table(BOOT_L2_HIGH) + kIndex, (image + offset).value() | DESC_TABLE);
  return reinterpret_cast<void*>(kSlot.address_of(registers));
}

}  // namespace cadastre::arch
