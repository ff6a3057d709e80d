// A naive page allocator: one bit a frame. It knows nothing of lists; it says what must be true of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "mm/frames/frame.hh"

namespace cadastre {

class BuddyModel {
 public:
  explicit BuddyModel(std::uint32_t frames) : used_(frames, true), used_frames_(frames) {}

  [[nodiscard]] std::uint32_t frames() const { return static_cast<std::uint32_t>(used_.size()); }
  [[nodiscard]] bool is_free(FrameIndex frame) const { return !used_[frame]; }
  [[nodiscard]] bool is_free(FrameIndex first, std::uint32_t count) const {
    for (FrameIndex i = first; i < first + count; ++i) {
      if (used_[i]) return false;
    }
    return true;
  }
  // False, and nothing changes, when some of it is used already.
  bool take(FrameIndex first, std::uint32_t count) {
    if (first + count > used_.size() || !is_free(first, count)) return false;
    set(first, count, true);
    return true;
  }
  void release(FrameIndex first, std::uint32_t count) { set(first, count, false); }

  // The same for blocks, which it remembers. False when some of it is used already, or its place is wrong.
  bool allocate(FrameIndex first, unsigned order) {
    if (first % (1U << order) != 0 || !take(first, 1U << order)) return false;
    blocks_[first] = order;
    return true;
  }
  void free(FrameIndex first) {
    const auto block = blocks_.find(first);
    release(first, 1U << block->second);
    blocks_.erase(block);
  }

  [[nodiscard]] std::uint32_t free_frames() const { return frames() - used_frames_; }
  // Is there a place for a block of `order`?
  [[nodiscard]] bool has_room(unsigned order) const {
    const std::uint32_t size = 1U << order;
    for (FrameIndex at = 0; at + size <= used_.size(); at += size) {
      if (is_free(at, size)) return true;
    }
    return false;
  }
  [[nodiscard]] const std::map<FrameIndex, unsigned>& blocks() const { return blocks_; }

 private:
  void set(FrameIndex first, std::uint32_t count, bool used) {
    for (FrameIndex i = first; i < first + count; ++i) {
      used_frames_ += (used ? 1U : 0U) - (used_[i] ? 1U : 0U);
      used_[i] = used;
    }
  }

  std::vector<bool> used_;
  std::uint32_t used_frames_;
  std::map<FrameIndex, unsigned> blocks_;
};

}  // namespace cadastre
