// HYP's own address space (the picture is in arch/armv7/layout.hh): the final tables, made once at boot, and
// what is mapped later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "arch/armv7/hyp_environment.hh"
#include "arch/armv7/layout.hh"
#include "arch/armv7/machine.hh"
#include "mm/base/address.hh"
#include "mm/base/check.hh"
#include "mm/base/error.hh"
#include "mm/base/spinlock.hh"
#include "mm/boot/memblock.hh"
#include "mm/frames/page_allocator.hh"
#include "mm/objects/slab.hh"
#include "mm/objects/vmalloc.hh"
#include "mm/translation/hyp_table.hh"

namespace cadastre {

class HypAddressSpace {
 public:
  // The linear map reaches from the first GiB-aligned address of RAM kLinearSize bytes up.
  static PhysAddr linear_base(const Memblock& memblock);
  static PhysAddr linear_end(const Memblock& memblock) { return linear_base(memblock) + layout::kLinearSize; }

  struct BootMappings {
    PhysAddr image;
    PhysAddr dtb;  // stays where the boot tables have it
    std::size_t dtb_size = 0;
    std::optional<PhysAddr> uart;  // of the console, if there is one
  };
  // Makes the final tables: the linear map of all low memory that may be mapped, the image with its
  // permissions, fixmap, kmap. Nothing changes for the running CPU until `activate`.
  [[nodiscard]] Result<> build(const Memblock& memblock, const BootMappings& boot);
  // Switches this CPU to the final tables, and off goes whatever is writable and executable (HSCTLR.WXN).
  void activate() const;
  [[nodiscard]] PhysAddr root() const { return table().root(); }

  // Addresses for vmalloc and ioremap, and table pages from `pages` from now on.
  [[nodiscard]] Result<> init_vmalloc(PageAllocator<arch::ArmMachine>& pages, SlabAllocator<arch::ArmMachine>& slabs,
                                      const arch::HypEnvironment::TableAllocator& tables, Log* log);
  using Vmalloc = cadastre::Vmalloc<arch::HypEnvironment, arch::ArmMachine>;
  [[nodiscard]] Vmalloc& vmalloc() {
    CHECK(vmalloc_.has_value());
    return *vmalloc_;
  }
  // What is at a fixed address: errors as for cadastre::set_fixmap.
  [[nodiscard]] Result<void*> set_fixmap(layout::Fixmap slot, PhysAddr physical, std::uint64_t size,
                                         HypAttributes attributes) EXCLUDES(lock_);
  void clear_fixmap(layout::Fixmap slot) EXCLUDES(lock_);
  // The top of a stack for `cpu`, over frames that stay the caller's gift; under it is a guard page.
  [[nodiscard]] Result<void*> map_stack(unsigned cpu, PhysAddr frames) EXCLUDES(lock_);
  static constexpr std::size_t kStackBytes = layout::kStackSize - kPageSize;

  // What is mapped at an address, and the level at which the lookup ends.
  struct Lookup {
    std::optional<Mapping<HypAttributes>> mapping;
    unsigned level;
  };
  [[nodiscard]] Lookup look_up(HypVirtAddr address) const {
    return {table().query(address), table().lookup_level(address)};
  }

 private:
  [[nodiscard]] Result<> map(std::uint32_t address, PhysAddr physical, std::uint64_t size, HypAttributes attributes);
  [[nodiscard]] Result<> map_linear(PhysAddr start, PhysAddr end, HypAttributes attributes);
  [[nodiscard]] Result<> map_low_memory(const Memblock& memblock, PhysAddr image);
  [[nodiscard]] Result<> map_image(PhysAddr image);
  [[nodiscard]] Result<> prepare_kmap();

  using Table = HypTable<arch::HypEnvironment>;
  [[nodiscard]] Table& table() {
    CHECK(table_.has_value());
    return *table_;
  }
  [[nodiscard]] const Table& table() const {
    CHECK(table_.has_value());
    return *table_;
  }

  Spinlock lock_;
  arch::HypEnvironment environment_;
  std::optional<Table> table_;      // from `build` on
  std::optional<Vmalloc> vmalloc_;  // from `init_vmalloc` on
};

extern HypAddressSpace hyp_space;

}  // namespace cadastre
