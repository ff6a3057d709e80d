#include "mm/objects/per_cpu_allocator.hh"

namespace cadastre {

std::size_t PerCpuChunk::take(std::size_t count, std::size_t align) {
  for (std::size_t first = 0; first + count <= kGranules;) {
    std::size_t run = 0;
    while (run < count && granules_[first + run] == Granule::kFree) ++run;
    if (run == count) {
      std::fill_n(granules_.begin() + static_cast<std::ptrdiff_t>(first), count, Granule::kRest);
      granules_[first] = Granule::kFirst;
      used_ += count;
      return first;
    }
    first = (first + run + align) & ~(align - 1);  // the next multiple after the one that is taken
  }
  return kNone;
}

std::size_t PerCpuChunk::give_back(std::size_t first) {
  if (granules_[first] != Granule::kFirst) return 0;
  std::size_t past = first;
  do {
    granules_[past++] = Granule::kFree;
  } while (past < kGranules && granules_[past] == Granule::kRest);
  used_ -= past - first;
  return past - first;
}

}  // namespace cadastre
