// Empty slabs, for when pages run low: ShrinkerList::add(slab_shrinker). A CPU gives back its own and its node's; what
// other CPUs have at hand they give back themselves.
#pragma once

#include <cstdint>
#include <string_view>

#include "mm/frames/shrinker.hh"
#include "mm/objects/slab.hh"

namespace cadastre {

template <Machine M>
class SlabShrinker final : public Shrinker {
 public:
  explicit constexpr SlabShrinker(SlabAllocator<M>& slabs) : slabs_(slabs) {}

  [[nodiscard]] std::string_view name() const override { return "slab"; }
  [[nodiscard]] std::uint32_t count() override { return slabs_.spare_pages(); }
  // All of them at once: there are few.
  std::uint32_t scan(std::uint32_t /*pages*/) override { return slabs_.shrink_all(); }

 private:
  SlabAllocator<M>& slabs_;
};

}  // namespace cadastre
