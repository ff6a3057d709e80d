// The machine's CMA areas: its pools, from /reserved-memory and from `cma=SIZE[@BASE[-LIMIT]]` on the command line.
#pragma once

#include <span>

#include "hyp/config/reserve.hh"
#include "mm/base/error.hh"
#include "mm/frames/cma.hh"
#include "platform/dtb/refusals.hh"

namespace cadastre {

// Makes areas of the pools, which lend their pages to guests meanwhile. Once, when the page allocator and the slab caches are
// up. The names stay `pools`' own. One that cannot be an area is refused; the error is kNoMemory.
[[nodiscard]] Result<> init_cma_areas(const Pools& pools, Refusals& refusals);
[[nodiscard]] std::span<CmaArea> cma_areas();

}  // namespace cadastre
