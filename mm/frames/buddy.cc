#include "mm/frames/buddy.hh"

#include <bit>

namespace cadastre {
namespace {

using enum MigrateType;

// Where a type without a free block of its own looks next.
constexpr std::array<std::array<MigrateType, 2>, 3> kFallbacks = {{
    {kReclaimable, kMovable},    // kUnmovable
    {kReclaimable, kUnmovable},  // kMovable
    {kUnmovable, kMovable},      // kReclaimable
}};

constexpr FrameIndex pageblock_start(FrameIndex index) {
  return index & ~(kPagesPerBlock - 1);
}

}  // namespace

// ---- Lists ----

MigrateType Buddy::list_type(FrameIndex index) const {
  const std::uint8_t pageblock = frames_->pageblock(index);
  return (pageblock & FrameTable::kIsolated) != 0 ? kIsolate : static_cast<MigrateType>(pageblock);
}

FrameState Buddy::free_state(FrameIndex index) const {
  return frames_->pageblock_type(index) == kCma ? FrameState::kCmaIdle : FrameState::kFree;
}

void Buddy::link(FrameIndex block, unsigned order, MigrateType type, FrameState state) {
  const auto t = static_cast<unsigned>(type);
  FrameTable& frames = *frames_;
  Frame& frame = frames[block];
  frame.set_value(t);
  frame.put_down(state, {.state = state, .order = order});
  lists_[order][t].push_front(frames, block);
  ++counts_[order][t];
  nonempty_[t] = static_cast<std::uint16_t>(nonempty_[t] | 1U << order);
}

void Buddy::unlink(FrameIndex block, unsigned order, MigrateType type) {
  const auto t = static_cast<unsigned>(type);
  FrameTable& frames = *frames_;
  lists_[order][t].remove(frames, block);
  if (--counts_[order][t] == 0) nonempty_[t] = static_cast<std::uint16_t>(nonempty_[t] & ~(1U << order));
  frames[block].take_off();
}

void Buddy::account(MigrateType type, std::uint32_t frames) {
  std::uint32_t& counter = type == kIsolate ? isolated_ : free_;
  relaxed_store(counter, counter + frames);
  if (type == kCma) relaxed_store(free_cma_, free_cma_ + frames);
}

// ---- Free ----

// Two whole, free pageblocks of different kinds may as well be of the same one; not so what belongs to an
// area or is being collected.
bool Buddy::may_merge_pageblocks(FrameIndex in_section) {
  auto& pageblocks = frames_->section_of(in_section).pageblocks;
  if (pageblocks[0] == pageblocks[1]) return true;
  const auto plain = [](std::uint8_t p) { return p <= static_cast<std::uint8_t>(kReclaimable); };
  return plain(pageblocks[0]) && plain(pageblocks[1]);
}

void Buddy::free(FrameIndex block, unsigned order) {
  if (order == kMaxOrder) {
    // While it was in use somebody began to collect one of its halves.
    const auto& pageblocks = frames_->section_of(block).pageblocks;
    if (pageblocks[0] != pageblocks[1]) {
      free(block, kPageblockOrder);
      free(block + kPagesPerBlock, kPageblockOrder);
      return;
    }
  }
  const FrameState state = free_state(block);
  MigrateType type = list_type(block);
  account(type, 1U << order);
  (*frames_)[block].pick_up(state);  // it may end up inside of a larger one
  for (; order < kMaxOrder; ++order) {
    const FrameIndex buddy = block ^ (1U << order);
    if ((*frames_)[buddy].packed() != FrameWord{.state = state, .order = order}.packed()) break;
    if (order == kPageblockOrder) {
      if (!may_merge_pageblocks(block)) break;
      const MigrateType other = listed_type(buddy);
      unlink(buddy, order, other);
      block &= buddy;
      if (other != type) {
        type = kMovable;
        frames_->set_pageblock(block, type);
        frames_->set_pageblock(block + kPagesPerBlock, type);
      }
      continue;
    }
    unlink(buddy, order, type);
    block &= buddy;
  }
  link(block, order, type, state);
}

// ---- Alloc ----

// Puts back what a block of `from` has beyond its first 2^to frames.
void Buddy::cut(FrameIndex block, unsigned from, unsigned to, MigrateType type, FrameState state) {
  while (from > to) {
    --from;
    link(block + (1U << from), from, type, state);
  }
}

FrameIndex Buddy::take(unsigned order, MigrateType type) {
  const unsigned enough = orders(type) >> order;
  if (enough == 0) return kNoFrame;
  const unsigned from = order + static_cast<unsigned>(std::countr_zero(enough));
  const FrameIndex block = list(from, type).head();
  unlink(block, from, type);
  cut(block, from, order, type, type == kCma ? FrameState::kCmaIdle : FrameState::kFree);
  account(type, 0U - (1U << order));
  return block;
}

Buddy::Block Buddy::take_up_to(unsigned order, MigrateType type) {
  if (orders(type) == 0) return {};
  const auto smallest = static_cast<unsigned>(std::countr_zero(orders(type)));
  if (smallest < order) order = smallest;
  return {.first = take(order, type), .order = order};
}

bool Buddy::has_block(unsigned order, MigrateType type, bool may_borrow_cma) const {
  unsigned all = orders(type) | (may_borrow_cma ? orders(kCma) : 0U);
  for (const MigrateType other : kFallbacks[static_cast<unsigned>(type)]) all |= orders(other);
  return all >> order != 0;
}

FrameIndex Buddy::alloc(unsigned order, MigrateType type, bool may_borrow_cma) {
  // While most of what is free is CMA's, movable pages go there: the rest is for those who have no such
  // choice.
  if (may_borrow_cma && free_cma_ > free_ / 2) {
    if (const FrameIndex block = take(order, kCma); block != kNoFrame) return block;
  }
  if (const FrameIndex block = take(order, type); block != kNoFrame) return block;
  if (may_borrow_cma) {
    if (const FrameIndex block = take(order, kCma); block != kNoFrame) return block;
  }
  return steal(order, type);
}

// The largest block of another type is the one to steal: one theft then serves many requests, and the
// pageblock that it takes over is the emptiest. Only a movable request too small to claim a pageblock takes
// the smallest instead: it will leave again, and should not break a large block.
FrameIndex Buddy::steal(unsigned order, MigrateType type) {
  const auto& fallbacks = kFallbacks[static_cast<unsigned>(type)];
  const auto first_with = [&](unsigned at) -> FrameIndex {
    for (const MigrateType other : fallbacks) {
      if ((orders(other) >> at & 1U) != 0) return list(at, other).head();
    }
    return kNoFrame;
  };
  for (unsigned at = kMaxOrder + 1; at-- > order;) {
    const FrameIndex block = first_with(at);
    if (block == kNoFrame) continue;
    if (type == kMovable && at < kPageblockOrder / 2) break;
    return steal_block(block, at, order, type);
  }
  for (unsigned at = order; at < kPageblockOrder / 2; ++at) {
    const FrameIndex block = first_with(at);
    if (block != kNoFrame) return steal_block(block, at, order, type);
  }
  return kNoFrame;
}

FrameIndex Buddy::steal_block(FrameIndex block, unsigned block_order, unsigned order, MigrateType type) {
  MigrateType owner = listed_type(block);
  const bool large_enough = block_order >= kPageblockOrder / 2 || type != kMovable;
  if (block_order < kPageblockOrder && large_enough && worth_claiming(block, type)) {
    relist(block, type, false);
    return take(order, type);
  }
  unlink(block, block_order, owner);
  if (block_order >= kPageblockOrder) {
    for (FrameIndex i = block; i < block + (1U << block_order); i += kPagesPerBlock) frames_->set_pageblock(i, type);
    owner = type;
  }
  cut(block, block_order, order, owner, FrameState::kFree);
  account(owner, 0U - (1U << order));
  return block;
}

// A pageblock changes sides when at least half of it is free or in use the way that the new type is.
bool Buddy::worth_claiming(FrameIndex in_pageblock, MigrateType type) const {
  const FrameIndex start = pageblock_start(in_pageblock);
  const FrameIndex end = start + kPagesPerBlock;
  unsigned good = 0;
  for (FrameIndex i = start; i < end;) {
    const FrameWord word = (*frames_)[i].word();
    const unsigned size = word.state == FrameState::kReserved ? 1 : 1U << word.order;
    const bool movable = is_guest(word.state);
    if (is_free(word.state) || (is_allocated(word.state) && movable == (type == kMovable))) good += size;
    i += size;
  }
  return good >= kPagesPerBlock / 2;
}

// ---- Pageblocks ----

// A free block over both pageblocks of a section becomes two.
void Buddy::split_section(FrameIndex in_section) {
  const FrameIndex start = in_section & ~(kFramesPerSection - 1);
  const FrameWord word = (*frames_)[start].word();
  if (word.order != kMaxOrder || (word.state != FrameState::kFree && word.state != FrameState::kCmaIdle)) return;
  const MigrateType type = listed_type(start);
  unlink(start, kMaxOrder, type);
  link(start, kPageblockOrder, type, word.state);
  link(start + kPagesPerBlock, kPageblockOrder, type, word.state);
}

void Buddy::relist(FrameIndex in_pageblock, MigrateType type, bool isolated) {
  split_section(in_pageblock);
  const FrameIndex start = pageblock_start(in_pageblock);
  frames_->set_pageblock(start, type, isolated);
  for (FrameIndex i = start; i < start + kPagesPerBlock;) {
    const FrameWord word = (*frames_)[i].word();
    if (word.state == FrameState::kFree || word.state == FrameState::kCmaIdle) {
      const MigrateType from = listed_type(i);
      const MigrateType to = isolated ? kIsolate : type;
      unlink(i, word.order, from);
      account(from, 0U - (1U << word.order));
      link(i, word.order, to, free_state(i));
      account(to, 1U << word.order);
    }
    i += word.state == FrameState::kReserved ? 1 : 1U << word.order;
  }
}

void Buddy::set_type(FrameIndex in_pageblock, MigrateType type) {
  relist(in_pageblock, type, frames_->is_isolated(in_pageblock));
}

Result<> Buddy::isolate(FrameIndex in_pageblock) {
  if (frames_->is_isolated(in_pageblock)) return std::unexpected(Error::kBusy);
  relist(in_pageblock, frames_->pageblock_type(in_pageblock), true);
  return {};
}

void Buddy::unisolate(FrameIndex in_pageblock) {
  relist(in_pageblock, frames_->pageblock_type(in_pageblock), false);
  // Its other half may have waited for it.
  const FrameIndex start = pageblock_start(in_pageblock);
  const FrameWord word = (*frames_)[start].word();
  if (is_free(word.state) && word.state != FrameState::kCached && word.order == kPageblockOrder) {
    const MigrateType type = listed_type(start);
    unlink(start, kPageblockOrder, type);
    account(type, 0U - kPagesPerBlock);
    free(start, kPageblockOrder);
  }
}

FrameIndex Buddy::take_range(FrameIndex first, FrameIndex end) {
  // The blocks at the edges may reach beyond them.
  const auto block_at = [&](FrameIndex index) -> Block {
    const FrameIndex head = frames_->head_of(index);
    const FrameWord word = (*frames_)[head].word();
    const bool listed = word.state == FrameState::kFree || word.state == FrameState::kCmaIdle;
    return listed && frames_->is_isolated(head) ? Block{.first = head, .order = word.order} : Block{};
  };
  for (FrameIndex i = first; i < end;) {
    const Block block = block_at(i);
    if (block.first == kNoFrame) return i;
    i = block.first + (1U << block.order);
  }
  for (FrameIndex i = first; i < end;) {
    Block block = block_at(i);
    const FrameState state = free_state(block.first);
    unlink(block.first, block.order, kIsolate);
    // Halve what reaches over an edge, keep the halves outside, until what is left lies within.
    while (block.first < i || block.first + (1U << block.order) > end) {
      --block.order;
      const FrameIndex upper = block.first + (1U << block.order);
      if (i >= upper) {
        link(block.first, block.order, kIsolate, state);
        block.first = upper;
      } else {
        link(upper, block.order, kIsolate, state);
      }
    }
    account(kIsolate, 0U - (1U << block.order));
    i = block.first + (1U << block.order);
  }
  return kNoFrame;
}

}  // namespace cadastre
