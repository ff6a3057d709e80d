#include "mm/objects/virtual_areas.hh"

#include <algorithm>
#include <bit>

#include "mm/base/check.hh"

namespace cadastre {

VirtualAreas::VirtualAreas(HypVirtAddr start, HypVirtAddr end) {
  end_mark_.start_ = end.value();
  end_mark_.gap_ = end - start;
  update(end_mark_);
}

// Neighbours have addresses that differ little; all bits of their priorities do.
std::uint32_t VirtualAreas::priority(const VirtualArea& area) {
  auto hash = static_cast<std::uint32_t>(area.start_ >> kPageShift);
  hash = (hash ^ hash >> 16) * 0x85eb'ca6bU;
  hash = (hash ^ hash >> 13) * 0xc2b2'ae35U;
  return hash ^ hash >> 16;
}

void VirtualAreas::update(VirtualArea& area) {
  area.largest_gap_ = area.gap_;
  if (area.below_ != nullptr) area.largest_gap_ = std::max(area.largest_gap_, area.below_->largest_gap_);
  if (area.above_ != nullptr) area.largest_gap_ = std::max(area.largest_gap_, area.above_->largest_gap_);
}

std::uintptr_t VirtualAreas::place_in_gap(const VirtualArea& area, std::size_t align) {
  return HypVirtAddr(area.start_ - area.gap_).aligned_up(align).value();
}

bool VirtualAreas::fits_before(const VirtualArea& area, std::size_t room, std::size_t align) {
  const std::size_t skipped = place_in_gap(area, align) - (area.start_ - area.gap_);
  return skipped <= area.gap_ && room <= area.gap_ - skipped;
}

VirtualArea* VirtualAreas::first_fit(VirtualArea* tree, std::size_t room, std::size_t align) {
  while (tree != nullptr && tree->largest_gap_ >= room) {
    if (VirtualArea* found = first_fit(tree->below_, room, align); found != nullptr) return found;
    if (fits_before(*tree, room, align)) return tree;
    tree = tree->above_;
  }
  return nullptr;
}

// What starts before `at`, and the rest.
void VirtualAreas::split(VirtualArea* tree, std::uintptr_t at, VirtualArea*& below, VirtualArea*& above) {
  if (tree == nullptr) {
    below = above = nullptr;
    return;
  }
  if (tree->start_ < at) {
    split(tree->above_, at, tree->above_, above);
    below = tree;
  } else {
    split(tree->below_, at, below, tree->below_);
    above = tree;
  }
  update(*tree);
}

// All of `below` is before all of `above`.
VirtualArea* VirtualAreas::join(VirtualArea* below, VirtualArea* above) {
  if (below == nullptr) return above;
  if (above == nullptr) return below;
  const bool below_is_root = priority(*below) >= priority(*above);
  VirtualArea* root = below_is_root ? below : above;
  if (below_is_root) {
    below->above_ = join(below->above_, above);
  } else {
    above->below_ = join(below, above->below_);
  }
  update(*root);
  return root;
}

void VirtualAreas::change_first_gap(VirtualArea& tree, std::ptrdiff_t change) {
  if (tree.below_ != nullptr) {
    change_first_gap(*tree.below_, change);
  } else {
    tree.gap_ += static_cast<std::size_t>(change);
  }
  update(tree);
}

Result<> VirtualAreas::insert(VirtualArea& area, std::size_t size, std::size_t align) {
  if (size == 0 || size % kPageSize != 0 || align % kPageSize != 0 || !std::has_single_bit(align)) {
    return std::unexpected(Error::kInvalid);
  }
  const std::size_t room = size + kPageSize;
  if (room < size) return std::unexpected(Error::kLimit);
  const VirtualArea* next = first_fit(root_, room, align);
  if (next == nullptr) return std::unexpected(Error::kLimit);
  area.start_ = place_in_gap(*next, align);
  area.size_ = size;
  area.gap_ = area.start_ - (next->start_ - next->gap_);
  area.below_ = area.above_ = nullptr;
  update(area);
  VirtualArea* below = nullptr;
  VirtualArea* above = nullptr;
  split(root_, area.start_, below, above);
  change_first_gap(*above, -static_cast<std::ptrdiff_t>(area.gap_ + room));
  root_ = join(join(below, &area), above);
  return {};
}

void VirtualAreas::remove(VirtualArea& area) {
  VirtualArea* below = nullptr;
  VirtualArea* from_area = nullptr;
  VirtualArea* itself = nullptr;
  VirtualArea* above = nullptr;
  split(root_, area.start_, below, from_area);
  split(from_area, area.start_ + 1, itself, above);
  CHECK(itself == &area);
  change_first_gap(*above, static_cast<std::ptrdiff_t>(area.gap_ + area.size_ + kPageSize));
  root_ = join(below, above);
}

// The first that starts at `address` or above it.
const VirtualArea* VirtualAreas::after(std::uintptr_t address) const {
  const VirtualArea* found = &end_mark_;
  for (const VirtualArea* area = root_; area != nullptr;) {
    const bool candidate = area->start_ >= address;
    if (candidate) found = area;
    area = candidate ? area->below_ : area->above_;
  }
  return found;
}

VirtualArea* VirtualAreas::around(HypVirtAddr address) const {
  VirtualArea* found = nullptr;  // the last that starts no later
  for (VirtualArea* area = root_; area != nullptr;) {
    const bool candidate = area->start_ <= address.value() && area != &end_mark_;
    if (candidate) found = area;
    area = candidate ? area->above_ : area->below_;
  }
  return found != nullptr && address.value() < found->end() ? found : nullptr;
}

VirtualArea* VirtualAreas::starting_at(HypVirtAddr address) const {
  VirtualArea* area = around(address);
  return area != nullptr && area->start_ == address.value() ? area : nullptr;
}

}  // namespace cadastre
