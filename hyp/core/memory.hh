// The hypervisor's memory: one object of each of mm's layers, put together at boot. Nothing in mm knows of it.
#pragma once

#include "arch/armv7/machine.hh"
#include "hyp/config/command_line.hh"
#include "hyp/core/objects_of.hh"
#include "mm/base/error.hh"
#include "mm/boot/memblock.hh"
#include "mm/boot/reservations.hh"
#include "mm/frames/frame.hh"
#include "mm/frames/ownership.hh"
#include "mm/frames/page_allocator.hh"
#include "mm/guest/sharers.hh"
#include "mm/objects/mempool.hh"
#include "mm/objects/per_cpu_allocator.hh"
#include "mm/objects/slab.hh"
#include "mm/objects/slab_shrinker.hh"

namespace cadastre {

struct HostDescription;

struct Memory {
  PageAllocator<arch::ArmMachine> pages{arch::machine};  // first: what its fast paths read is near the start
  Memblock memblock;
  Reservations reservations;  // what RAM was taken for before there were pages
  Ownership ownership{pages.frames()};
  SlabAllocator<arch::ArmMachine> slabs{pages};
  Sharers<arch::ArmMachine> sharers{pages.frames(), ownership, slabs};
  SlabShrinker<arch::ArmMachine> slab_shrinker{slabs};
  PerCpuAllocator<arch::ArmMachine> per_cpu{pages, slabs};

  // Pages of translation tables, HYP's and guests'. To give back a page out of the middle of a block takes tables, and so
  // does a guest's page from high memory when low memory is used up: each CPU finds what one such operation takes.
  PoolPages<arch::ArmMachine> table_pages{pages};
  Mempool<PoolPages<arch::ArmMachine>> tables{table_pages};
};

extern Memory memory;

// A zeroed page, the caller's until `free_table`.
[[nodiscard]] inline Result<PhysAddr> allocate_table() {
  return memory.tables.alloc(kZero).transform([](Pfn frame) { return address_of(frame); });
}
inline void free_table(PhysAddr table) {
  memory.tables.free(frame_of(table));
}

// From memblock to the page allocator, the slab caches, the pools, and vmalloc, once the linear map is up. memblock
// allocates nothing afterwards. `checks` are on from the first page on.
[[nodiscard]] Result<> init_memory(const HostDescription& host, const DebugChecks& checks);

}  // namespace cadastre
