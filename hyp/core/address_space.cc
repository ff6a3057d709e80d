#include "hyp/core/address_space.hh"

#include <algorithm>
#include <array>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/boot_tables.h"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/image.hh"
#include "arch/armv7/machine.hh"
#include "mm/boot/fixmap.hh"

namespace cadastre {

HypAddressSpace hyp_space;

namespace {

// The root, aligned to its 32 bytes [ARMv7 B3.6.6]; a page, so that it is nobody else's.
alignas(kPageSize) std::array<Entry, HypGeometry::kRootEntries> hyp_root;

constexpr std::uint64_t kGiB = layout::kGiB;

std::uint64_t distance(const std::byte* from, const std::byte* to) {
  return static_cast<std::uint64_t>(to - from);
}

}  // namespace

PhysAddr HypAddressSpace::linear_base(const Memblock& memblock) {
  return memblock.start_of_memory().aligned_down(kGiB);
}

Result<> HypAddressSpace::map(std::uint32_t address, PhysAddr physical, std::uint64_t size, HypAttributes attributes) {
  return table().map(HypVirtAddr(address), physical, size, attributes);
}

Result<> HypAddressSpace::map_linear(PhysAddr start, PhysAddr end, HypAttributes attributes) {
  if (start >= end) return {};
  const auto address = reinterpret_cast<std::uintptr_t>(arch::machine.linear(start));
  return map(static_cast<std::uint32_t>(address), start, end - start, attributes);
}

// The image's text and read-only data are read-only here as well: W^X holds for frames, not only for
// addresses.
Result<> HypAddressSpace::map_low_memory(const Memblock& memblock, PhysAddr image) {
  const PhysAddr limit = address_of(arch::machine.high_memory());
  const PhysAddr constant_end = image + distance(__image_start, __rodata_end);
  for (const MemblockRegion& region : memblock.memory().all()) {
    if (has(region.flags, MemblockFlags::kNomap)) continue;
    const PhysAddr start = region.base.aligned_up(kPageSize);
    const PhysAddr end = std::min(region.end().aligned_down(kPageSize), limit);
    const PhysAddr before = std::clamp(image, start, std::max(start, end));
    const PhysAddr after = std::clamp(constant_end, start, std::max(start, end));
    if (const Result<> done = map_linear(start, before, HypAttributes::data()); !done) return done;
    if (const Result<> done = map_linear(before, after, HypAttributes::rodata()); !done) return done;
    if (const Result<> done = map_linear(after, end, HypAttributes::data()); !done) return done;
  }
  return {};
}

Result<> HypAddressSpace::map_image(PhysAddr image) {
  struct Part {
    const std::byte* begin;
    const std::byte* end;
    HypAttributes attributes;
  };
  const Part parts[] = {
      {__image_start, __text_end, HypAttributes::text()},
      {__text_end, __rodata_end, HypAttributes::rodata()},
      {__rodata_end, __image_end, HypAttributes::data()},
  };
  for (const Part& part : parts) {
    const auto address = static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(part.begin));
    const PhysAddr physical = image + distance(__image_start, part.begin);
    if (const Result<> done = map(address, physical, distance(part.begin, part.end), part.attributes); !done) {
      return done;
    }
  }
  return {};
}

// kmap writes its windows' entries itself, so the level-3 table that holds them has to be there for good: a
// page of the image, mapped read-only in the block's last slot, which no CPU uses, keeps it from being empty.
Result<> HypAddressSpace::prepare_kmap() {
  constexpr std::uint32_t kAnchor = layout::kKmap + kBlockSize - kPageSize;
  static_assert(kMaxCpus * layout::kKmapPagesPerCpu < kEntriesPerTable);
  if (const Result<> done = map(kAnchor, table().root(), kPageSize, HypAttributes::rodata()); !done) return done;
  Entry* windows = nullptr;
  table().walk(HypVirtAddr(layout::kKmap), [&](unsigned level, Entry entry) {
    if (level == 2) windows = environment_.table_at(entry_address(entry));
  });
  arch::machine.set_kmap_table(windows);
  return {};
}

Result<> HypAddressSpace::build(const Memblock& memblock, const BootMappings& boot) {
  environment_.set_image(boot.image);
  table_.emplace(environment_, environment_.image_address(&hyp_root));
  const PhysAddr base = linear_base(memblock);
  arch::machine.set_linear_map(base, frame_of(std::min(linear_end(memblock), memblock.end_of_memory())));

  if (const Result<> done = map_low_memory(memblock, boot.image); !done) return done;
  if (const Result<> done = map_image(boot.image); !done) return done;
  if (const Result<> done = prepare_kmap(); !done) return done;
  const auto dtb = set_fixmap(layout::Fixmap::kDtb, boot.dtb, boot.dtb_size, HypAttributes::rodata());
  if (!dtb) return std::unexpected(dtb.error());
  if (!boot.uart) return {};
  const std::uint64_t rest_of_page = kPageSize - boot.uart->offset_in(kPageSize);
  const auto uart = set_fixmap(layout::Fixmap::kUart, *boot.uart, rest_of_page, HypAttributes::device());
  return uart ? Result<>() : std::unexpected(uart.error());
}

Result<void*> HypAddressSpace::set_fixmap(layout::Fixmap slot, PhysAddr physical, std::uint64_t size,
                                          HypAttributes attributes) {
  const SpinlockGuard guard(lock_);
  return cadastre::set_fixmap(table(), layout::slot(slot), physical, size, attributes);
}

void HypAddressSpace::clear_fixmap(layout::Fixmap slot) {
  const SpinlockGuard guard(lock_);
  cadastre::clear_fixmap(table(), layout::slot(slot));
}

void HypAddressSpace::activate() const {
  arch::dsb_ish();
  arch::HTTBR::write(table().root().value());
  arch::isb();
  arch::TLBIALLH::write(0);
  arch::dsb();
  arch::isb();
  arch::HSCTLR::write(arch::HSCTLR::read() | HSCTLR_WXN);
  arch::isb();
}

Result<> HypAddressSpace::init_vmalloc(PageAllocator<arch::ArmMachine>& pages, SlabAllocator<arch::ArmMachine>& slabs,
                                       const arch::HypEnvironment::TableAllocator& tables, Log* log) {
  environment_.set_allocator(tables);
  vmalloc_.emplace(table(), lock_, pages, slabs, HypVirtAddr(layout::kVmalloc),
                   HypVirtAddr(layout::kVmalloc + layout::kVmallocSize));
  return vmalloc_->init(log);
}

Result<void*> HypAddressSpace::map_stack(unsigned cpu, PhysAddr frames) {
  const SpinlockGuard guard(lock_);
  const std::uint32_t bottom = layout::kStacks + cpu * layout::kStackSize + kPageSize;
  if (const Result<> done = map(bottom, frames, kStackBytes, HypAttributes::data()); !done) {
    return std::unexpected(done.error());
  }
  return reinterpret_cast<void*>(bottom + kStackBytes);
}

}  // namespace cadastre
