#include "hyp/core/audit.hh"

#include "arch/armv7/cpu.hh"
#include "hyp/core/console.hh"
#include "hyp/core/cross_call.hh"
#include "hyp/core/memory.hh"

namespace cadastre {
namespace {

std::uint32_t hyp_frames_at_start = 0;

template <class... Arguments>
bool failed(std::string_view format, const Arguments&... arguments) {
  char reason[160];
  console.print("audit: failed: {}", format_to(reason, format, arguments...));
  return false;
}

// Empty slabs and pages on a CPU's lists are no use of memory, only a habit; each CPU has its own.
void put_away() {
  call_on_all_cpus(
      [](void*) {
        memory.slabs.shrink_all();
        memory.pages.drain(arch::this_cpu().index);
      },
      nullptr);
}

}  // namespace

void open_books() {
  put_away();
  if (const auto counts = memory.pages.audit()) hyp_frames_at_start = counts->hyp;
}

bool audit() {
  put_away();
  const auto counts = memory.pages.audit();
  if (!counts) return failed("frame {}: {}", counts.error().frame, counts.error().what);
  if (const Result<> slabs = memory.slabs.audit(); !slabs) return failed("slab caches: {}", to_string(slabs.error()));
  if (const std::uint32_t left = counts->guest + counts->shared + counts->cma_lent + counts->pinned; left != 0) {
    return failed("{} frames are still a guest's", left);
  }
  if (counts->hyp != hyp_frames_at_start) {
    return failed("the hypervisor holds {} frames, {} before the first guest", counts->hyp, hyp_frames_at_start);
  }
  console.print("audit: ok {} frames: {} free, {} hypervisor's, 0 guests', {} CMA, {} reserved", counts->frames,
                counts->free, counts->hyp, counts->cma_idle, counts->reserved);
  return true;
}

}  // namespace cadastre
