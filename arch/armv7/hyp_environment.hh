// HYP's own tables as mm/translation/page_table.hh needs them: where table pages come from, and this CPU's barriers and
// TLB operations.
#pragma once

#include <array>
#include <cstdint>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/image.hh"
#include "arch/armv7/layout.hh"
#include "arch/armv7/machine.hh"
#include "arch/armv7/table_operations.hh"
#include "mm/translation/hyp_table.hh"

namespace cadastre::arch {

class HypEnvironment : public TableOperations {
 public:
  // Table pages in the image itself: enough to describe the machine before there is an allocator.
  static constexpr unsigned kEarlyTables = 24;

  // `image`: the physical address of the first byte of the image.
  void set_image(PhysAddr image) { image_ = image; }
  [[nodiscard]] PhysAddr image_address(const void* pointer) const {
    return image_ + (reinterpret_cast<std::uintptr_t>(pointer) - layout::kImage);
  }

  // Where later table pages come from: zeroed pages of low memory.
  struct TableAllocator {
    Result<PhysAddr> (*allocate)() = nullptr;
    void (*free)(PhysAddr table) = nullptr;
  };
  void set_allocator(const TableAllocator& allocator) { allocator_ = allocator; }

  [[nodiscard]] Result<PhysAddr> allocate_table();
  void free_table(PhysAddr table);
  [[nodiscard]] Entry* table_at(PhysAddr table) const {
    const std::uint64_t offset = table - image_;
    if (offset < layout::kImageSize)
      return reinterpret_cast<Entry*>(layout::kImage + static_cast<std::uint32_t>(offset));
    return reinterpret_cast<Entry*>(machine.linear(table));
  }
  static void dsb() {
    dsb_ish();
    isb();
  }
  static void invalidate(std::uint64_t first, std::uint64_t size);

 private:
  struct alignas(kPageSize) TablePage {
    std::array<Entry, kEntriesPerTable> entries;
  };

  PhysAddr image_;
  TableAllocator allocator_;
  std::uint32_t early_free_ = (std::uint32_t{1} << kEarlyTables) - 1;  // a bit each
  static std::array<TablePage, kEarlyTables> early_tables_;
};

}  // namespace cadastre::arch

namespace cadastre {

// In hyp_table.cc.
extern template class PageTable<HypGeometry, arch::HypEnvironment>;

}  // namespace cadastre
