// A naive page allocator: one byte a frame. It knows nothing of lists; it says what must be true of them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "mm/frame.hh"

namespace cadastre {

class BuddyModel {
 public:
  explicit BuddyModel(std::uint32_t frames) : used_(frames, true) {}

  void release(FrameIndex first, std::uint32_t count) {
    for (FrameIndex i = first; i < first + count; ++i) used_[i] = false;
  }
  // False when some of the block is used already, or its place is wrong.
  bool allocate(FrameIndex first, unsigned order) {
    const std::uint32_t size = 1U << order;
    if (first % size != 0 || first + size > used_.size()) return false;
    for (FrameIndex i = first; i < first + size; ++i) {
      if (used_[i]) return false;
    }
    for (FrameIndex i = first; i < first + size; ++i) used_[i] = true;
    blocks_[first] = order;
    return true;
  }
  void free(FrameIndex first) {
    const auto block = blocks_.find(first);
    release(first, 1U << block->second);
    blocks_.erase(block);
  }

  std::uint32_t free_frames() const {
    std::uint32_t count = 0;
    for (const bool used : used_) count += used ? 0 : 1;
    return count;
  }
  // Is there a place for a block of `order`?
  bool has_room(unsigned order) const {
    const std::uint32_t size = 1U << order;
    for (FrameIndex at = 0; at + size <= used_.size(); at += size) {
      bool free = true;
      for (FrameIndex i = at; i < at + size && free; ++i) free = !used_[i];
      if (free) return true;
    }
    return false;
  }
  const std::map<FrameIndex, unsigned>& blocks() const { return blocks_; }

 private:
  std::vector<bool> used_;
  std::map<FrameIndex, unsigned> blocks_;
};

}  // namespace cadastre
