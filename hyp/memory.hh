// The hypervisor's memory: one object of each of mm's layers, put together at boot. Nothing in mm knows of it.
#pragma once

#include "arch/armv7/machine.hh"
#include "mm/error.hh"
#include "mm/frame.hh"
#include "mm/memblock.hh"
#include "mm/page_allocator.hh"
#include "mm/slab.hh"
#include "platform/dtb/host.hh"

namespace cadastre {

template <class T>
using ObjectsOf = SlabCache<T, arch::ArmMachine>;

struct Memory {
  PageAllocator<arch::ArmMachine> pages{arch::machine};  // first: what its fast paths read is near the start
  Memblock memblock;
  Ownership ownership{pages.frames()};
  SlabAllocator<arch::ArmMachine> slabs{pages};
};

extern Memory memory;

// From memblock to the page allocator and the slab caches, once the linear map is up. memblock allocates nothing
// afterwards.
[[nodiscard]] Result<> init_memory(const HostDescription& host);

}  // namespace cadastre
