// The machine's CMA areas: from /reserved-memory, and from `cma=SIZE[@BASE[-LIMIT]]` on the command line.
#pragma once

#include <span>

#include "hyp/config/command_line.hh"
#include "mm/boot/memblock.hh"
#include "mm/frames/cma.hh"
#include "platform/dtb/fixed.hh"
#include "platform/dtb/host.hh"
#include "platform/dtb/refusals.hh"

namespace cadastre {

// Finds and reserves a place for each area, and for each other reservation that leaves its place to us. While memblock
// is all there is, after everything that has a place of its own. What has no room is refused.
void place_cma_areas(HostDescription& host, const CommandLine& words, Memblock& memblock, Refusals& refusals);

// Makes them areas, which lend their pages to guests meanwhile. Once the page allocator and the slab caches are up.
[[nodiscard]] Result<> init_cma_areas();
[[nodiscard]] std::span<CmaArea> cma_areas();

}  // namespace cadastre
