// The buddy system of one zone: free blocks of 2^order frames, aligned to their size.
//
//   order 10   [               4 MiB: a section                ]
//   order 9    [ pageblock 2 MiB      ][ pageblock 2 MiB       ]
//   order 8    [    1 MiB ][    1 MiB ][          ...
//
// A freed block joins its buddy (its neighbour in the next larger block) while that is free and whole. Free
// blocks are listed by order and by the migrate type of their pageblock; a request that finds nothing of its
// own type steals from another, whole pageblocks where it can, so that what cannot be moved stays together.
//
// Invariant: a free block's list is that of its pageblock (Isolate while the pageblock is isolated); a block
// of two pageblocks has two of the same type. Not locked: its zone does that.
#pragma once

#include <array>
#include <cstdint>

#include "mm/base/error.hh"
#include "mm/frames/frame.hh"
#include "mm/frames/frame_list.hh"

namespace cadastre {

class Buddy {
 public:
  constexpr Buddy() = default;

  void init(FrameTable& frames) { frames_ = &frames; }

  // A block that is nobody's becomes free. Whoever calls has checked that it was allocated.
  void free(FrameIndex block, unsigned order);

  // A block of `order`, or kNoFrame; its state is the caller's to set. `may_borrow_cma` goes with kMovable.
  [[nodiscard]] FrameIndex alloc(unsigned order, MigrateType type, bool may_borrow_cma);
  // Only what is CMA's.
  [[nodiscard]] FrameIndex borrow(unsigned order) { return take(order, MigrateType::kCma); }
  // From the list of that type, of an order of at most `order`: the smallest there is, or a part of a larger
  // one.
  struct Block {
    FrameIndex first = kNoFrame;
    unsigned order = 0;
  };
  [[nodiscard]] Block take_up_to(unsigned order, MigrateType type);

  // Gives a pageblock another type; what is free in it changes lists.
  void set_type(FrameIndex in_pageblock, MigrateType type);
  // Keeps what is free in a pageblock, and what becomes free, from being allocated. kBusy when somebody did
  // already.
  [[nodiscard]] Result<> isolate(FrameIndex in_pageblock);
  void unisolate(FrameIndex in_pageblock);
  // Takes [first, end) if all of it is free in isolated pageblocks, else returns the first frame that is not,
  // and takes nothing.
  [[nodiscard]] FrameIndex take_range(FrameIndex first, FrameIndex end);

  // Frames that may be allocated (isolated ones may not), and how many of them are CMA's. Readable without
  // the lock.
  [[nodiscard]] std::uint32_t free_frames() const { return relaxed_load(free_); }
  [[nodiscard]] std::uint32_t free_cma_frames() const { return relaxed_load(free_cma_); }
  [[nodiscard]] std::uint32_t isolated_frames() const { return relaxed_load(isolated_); }
  [[nodiscard]] std::uint32_t blocks(unsigned order, MigrateType type) const {
    return counts_[order][static_cast<unsigned>(type)];
  }
  // Is there a block of at least this order for that type, CMA counted if it may be borrowed, or one to
  // steal?
  [[nodiscard]] bool has_block(unsigned order, MigrateType type, bool may_borrow_cma) const;

 private:
  [[nodiscard]] FrameList& list(unsigned order, MigrateType type) { return lists_[order][static_cast<unsigned>(type)]; }
  [[nodiscard]] MigrateType listed_type(FrameIndex block) const {
    return static_cast<MigrateType>((*frames_)[block].value());
  }
  [[nodiscard]] unsigned orders(MigrateType type) const { return nonempty_[static_cast<unsigned>(type)]; }
  [[nodiscard]] MigrateType list_type(FrameIndex index) const;
  [[nodiscard]] FrameState free_state(FrameIndex index) const;
  // On and off a list; `account` keeps the counts of frames, once an operation.
  void link(FrameIndex block, unsigned order, MigrateType type, FrameState state);
  void unlink(FrameIndex block, unsigned order, MigrateType type);
  void account(MigrateType type, std::uint32_t frames);  // modulo 2^32: take with a minus
  [[nodiscard]] FrameIndex take(unsigned order, MigrateType type);
  void cut(FrameIndex block, unsigned from, unsigned to, MigrateType type, FrameState state);
  [[nodiscard]] bool may_merge_pageblocks(FrameIndex in_section);
  [[nodiscard]] FrameIndex steal(unsigned order, MigrateType type);
  [[nodiscard]] FrameIndex steal_block(FrameIndex block, unsigned block_order, unsigned order, MigrateType type);
  [[nodiscard]] bool worth_claiming(FrameIndex in_pageblock, MigrateType type) const;
  void split_section(FrameIndex in_section);
  void relist(FrameIndex in_pageblock, MigrateType type, bool isolated);

  FrameTable* frames_ = nullptr;
  std::array<std::array<FrameList, kMigrateTypes>, kMaxOrder + 1> lists_;
  std::array<std::array<std::uint32_t, kMigrateTypes>, kMaxOrder + 1> counts_{};
  std::array<std::uint16_t, kMigrateTypes> nonempty_{};  // bit n: the list of order n has a block
  std::uint32_t free_ = 0;
  std::uint32_t free_cma_ = 0;
  std::uint32_t isolated_ = 0;
};

}  // namespace cadastre
