// Stage 2's faults from beginning to end, for tests whose environment has frames but no guest: the three parts in a row.
#pragma once

#include <algorithm>

#include "mm/translation/stage2.hh"

namespace cadastre {

// The environment also has allocate_frame(ipa, level), which may fail; free_frame(frame, level); and for shared pages
// private_copy(ipa, frame), which returns a copy, or the frame itself for its last user, and drop_shared(frame).
template <class Environment>
Result<FaultAnswer> serve_fault(Stage2<Environment>& stage2, Environment& environment, IpaAddr ipa, Access access,
                                RamRange ram) {
  bool may_split = true;
  for (;;) {
    const Result<FaultNeeds> needs = stage2.look(ipa, access, ram, may_split);
    if (!needs) return std::unexpected(needs.error());
    if (needs->what == FaultNeeds::What::kNothing) return needs->answer;
    Result<PhysAddr> frame = PhysAddr(0);
    if (needs->what == FaultNeeds::What::kFrame) frame = environment.allocate_frame(needs->base, needs->level);
    if (needs->what == FaultNeeds::What::kCopy) frame = environment.private_copy(needs->base, needs->shared);
    if (!frame) {
      if (needs->what == FaultNeeds::What::kCopy || needs->level == kLastLevel) return std::unexpected(frame.error());
      ram.largest_level = needs->level + 1;
      continue;
    }
    if (needs->what == FaultNeeds::What::kCopy && *frame == needs->shared) {
      stage2.commit_last_user(*needs);
      return FaultAnswer::kRetry;
    }
    const Result<bool> done = stage2.commit(*needs, access, *frame);
    if (!done && needs->what == FaultNeeds::What::kFrame) environment.free_frame(*frame, needs->level);
    if (!done) {
      if (needs->what != FaultNeeds::What::kSplit || !may_split) return std::unexpected(done.error());
      may_split = false;
      // A shared block cannot do without.
      if (stage2.table().query(ipa).value_or(typename Stage2<Environment>::Mapping{}).attributes.copy_on_write()) {
        return std::unexpected(done.error());
      }
      continue;
    }
    if (needs->what == FaultNeeds::What::kCopy) environment.drop_shared(needs->shared);
    if (needs->what != FaultNeeds::What::kSplit) return FaultAnswer::kRetry;
  }
}

// Population from `from` on, about `budget` leaves; returns the bytes done.
template <class Environment>
Result<std::uint64_t> populate_some(Stage2<Environment>& stage2, Environment& environment, IpaAddr from,
                                    const RamRange& ram, unsigned budget) {
  const IpaAddr end = ram.first + ram.size;
  IpaAddr at = from;
  for (; at < end && budget != 0; --budget) {
    if (!stage2.table().query(at)) {
      const Result<FaultAnswer> done = serve_fault(stage2, environment, at, Access::kRead, ram);
      if (!done) return std::unexpected(done.error());
    }
    const std::uint64_t size = stage2.table().query(at).value_or(typename Stage2<Environment>::Mapping{}).size();
    at = std::min(at.aligned_down(size) + size, end);
  }
  return at - from;
}

// The physical address behind `ipa`, for the hypervisor to write to.
template <class Environment>
Result<PhysAddr> prepare_write(Stage2<Environment>& stage2, Environment& environment, IpaAddr ipa,
                               const RamRange& ram) {
  const Result<FaultAnswer> answer = serve_fault(stage2, environment, ipa, Access::kWrite, ram);
  if (!answer) return std::unexpected(answer.error());
  return stage2.begin_write(ipa);
}

}  // namespace cadastre
