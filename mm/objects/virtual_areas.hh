// Who has which addresses of a region: ranges of whole pages, each with a guard page after it that is nobody's.
//
//   start                                                             end
//   [ area A ][g]  gap  [ area B ][g][ area C ][g]        gap         | end mark
//
// Areas are nodes of a treap: a search tree by address, a heap by a hash of the address, so balanced as if addresses came
// in random order. Each node knows the gap before it and the largest gap of its subtree, so the lowest gap that is
// large enough is found on one way down (more than one only where an alignment spoils gaps).
//
// Nodes are the caller's memory; nothing is allocated here. Locking is the caller's.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "mm/base/address.hh"
#include "mm/base/error.hh"

namespace cadastre {

// To be derived from by what its user wants to know of an area.
class VirtualArea {
 public:
  constexpr VirtualArea() = default;
  VirtualArea(const VirtualArea&) = delete;
  VirtualArea& operator=(const VirtualArea&) = delete;

  [[nodiscard]] HypVirtAddr start() const { return HypVirtAddr(start_); }
  [[nodiscard]] std::size_t size() const { return size_; }  // the guard page not counted

 private:
  friend class VirtualAreas;

  [[nodiscard]] std::uintptr_t end() const { return start_ + size_ + kPageSize; }

  std::uintptr_t start_ = 0;
  std::size_t size_ = 0;
  std::size_t gap_ = 0;          // free bytes before it
  std::size_t largest_gap_ = 0;  // of its subtree
  VirtualArea* below_ = nullptr;
  VirtualArea* above_ = nullptr;
};

class VirtualAreas {
 public:
  // Page-aligned.
  VirtualAreas(HypVirtAddr start, HypVirtAddr end);
  VirtualAreas(const VirtualAreas&) = delete;
  VirtualAreas& operator=(const VirtualAreas&) = delete;

  // Gives `area` the lowest `size` bytes, and a guard page, that are free and aligned. It stays where it is until
  // `remove`. kInvalid: a size or alignment that is not whole pages, or an alignment that is no power of two;
  // kLimit: no gap is large enough.
  [[nodiscard]] Result<> insert(VirtualArea& area, std::size_t size, std::size_t align = kPageSize);
  void remove(VirtualArea& area);

  // The area that starts there, and the one that has that address, guard page included; nullptr: none.
  [[nodiscard]] VirtualArea* starting_at(HypVirtAddr address) const;
  [[nodiscard]] VirtualArea* around(HypVirtAddr address) const;
  [[nodiscard]] bool empty() const { return root_ == &end_mark_; }

  // In rising order.
  template <std::invocable<const VirtualArea&> Visit>
  void for_each(Visit visit) const {
    for (const VirtualArea* area = after(0); area != &end_mark_; area = after(area->start_ + 1)) visit(*area);
  }

 private:
  [[nodiscard]] static std::uint32_t priority(const VirtualArea& area);
  static void update(VirtualArea& area);
  [[nodiscard]] static std::uintptr_t place_in_gap(const VirtualArea& area, std::size_t align);
  [[nodiscard]] static bool fits_before(const VirtualArea& area, std::size_t room, std::size_t align);
  [[nodiscard]] static VirtualArea* first_fit(VirtualArea* tree, std::size_t room, std::size_t align);
  static void split(VirtualArea* tree, std::uintptr_t at, VirtualArea*& below, VirtualArea*& above);
  [[nodiscard]] static VirtualArea* join(VirtualArea* below, VirtualArea* above);
  static void change_first_gap(VirtualArea& tree, std::ptrdiff_t change);
  [[nodiscard]] const VirtualArea* after(std::uintptr_t address) const;

  VirtualArea end_mark_;  // the last gap is before it
  VirtualArea* root_ = &end_mark_;
};

}  // namespace cadastre
