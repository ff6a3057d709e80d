#include "mm/frames/shrinker.hh"

#include <algorithm>

#include "mm/base/spinlock.hh"

namespace cadastre {

void ShrinkerList::add(Shrinker& shrinker) {
  while (!enter()) spin_wait();
  shrinker.next_ = first_;
  first_ = &shrinker;
  leave();
}

void ShrinkerList::remove(Shrinker& shrinker) {
  while (!enter()) spin_wait();
  for (Shrinker** link = &first_; *link != nullptr; link = &(*link)->next_) {
    if (*link != &shrinker) continue;
    *link = shrinker.next_;
    break;
  }
  leave();
}

std::uint32_t ShrinkerList::shrink(std::uint32_t pages) {
  if (pages == 0 || !enter()) return 0;
  std::uint64_t total = 0;
  for (Shrinker* shrinker = first_; shrinker != nullptr; shrinker = shrinker->next_) total += shrinker->count();
  std::uint32_t freed = 0;
  if (total != 0) {
    for (Shrinker* shrinker = first_; shrinker != nullptr; shrinker = shrinker->next_) {
      // Rounded up, so that small ones take part.
      const std::uint64_t share = (std::uint64_t{pages} * shrinker->count() + total - 1) / total;
      if (share != 0) freed += shrinker->scan(static_cast<std::uint32_t>(std::min<std::uint64_t>(share, pages)));
    }
  }
  leave();
  return freed;
}

}  // namespace cadastre
