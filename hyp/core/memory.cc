#include "hyp/core/memory.hh"

#include "hyp/core/address_space.hh"
#include "hyp/core/console.hh"
#include "platform/dtb/host.hh"

namespace cadastre {

Memory memory;

namespace {

// A range splits a block of 1 GiB at each end: a table of 2 MiB blocks, and one of pages.
constexpr unsigned kTablesPerOperation = 4;

Result<> enable_checks(const DebugChecks& checks) {
  if (checks.history) {
    const std::size_t count = memory.pages.frames().count();
    const Result<std::byte*> bytes =
        memory.memblock.alloc_zeroed(arch::machine, count * sizeof(FrameHistory), alignof(FrameHistory));
    if (!bytes) return std::unexpected(bytes.error());
    memory.pages.set_history({reinterpret_cast<FrameHistory*>(*bytes), count});
  }
  if (checks.poison) memory.pages.set_poison(true);
  SlabFlags of_objects;
  if (checks.poison) of_objects = of_objects | kPoisonObjects;
  if (checks.history) of_objects = of_objects | kObjectHistory;
  if (checks.slab) of_objects = of_objects | kRedZone;
  memory.slabs.set_checks(of_objects);
  if (checks.poison || checks.history || checks.slab) {
    console.print("memory: debug:{}{}{}", checks.poison ? " poison" : "", checks.history ? " history" : "",
                  checks.slab ? " slab" : "");
  }
  return {};
}

}  // namespace

Result<> init_memory(const HostDescription& host, const DebugChecks& checks) {
  const PageAllocatorConfig config{.dma_limit = host.zone_dma_limit, .distances = host.distances, .log = &console};
  if (const Result<> done = memory.pages.init(memory.memblock, config); !done) return done;
  for (unsigned i = 0; i < host.cpus.size(); ++i) memory.pages.set_cpu_node(i, host.cpus[i].node);
  if (const Result<> done = enable_checks(checks); !done) return done;
  memory.pages.release(memory.memblock);
  const auto cpus = static_cast<unsigned>(host.cpus.size());
  if (const Result<> done = memory.slabs.init(&console); !done) return done;
  if (const Result<> done = memory.sharers.init(); !done) return done;
  memory.pages.shrinkers().add(memory.slab_shrinker);
  if (const Result<> done = memory.per_cpu.init(cpus, &console); !done) return done;
  if (const Result<> done = memory.tables.resize(kTablesPerOperation * cpus); !done) return done;
  return hyp_space.init_vmalloc(memory.pages, memory.slabs, {.allocate = allocate_table, .free = free_table}, &console);
}

}  // namespace cadastre
