#include "mm/buddy.hh"

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

void add(std::uint32_t& counter, std::uint32_t frames) {
  relaxed_store(counter, counter + frames);
}
void subtract(std::uint32_t& counter, std::uint32_t frames) {
  relaxed_store(counter, counter - frames);
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

void Buddy::insert(FrameIndex block, unsigned order, MigrateType type) {
  const auto t = static_cast<unsigned>(type);
  Frame& frame = (*frames_)[block];
  frame.set_value(t);
  frame.set_word({.state = free_state(block), .order = order});
  lists_[order][t].push_front(*frames_, block);
  ++counts_[order][t];
  nonempty_[t] = static_cast<std::uint16_t>(nonempty_[t] | 1U << order);
  add(counter(type), 1U << order);
  if (type == kCma) add(free_cma_, 1U << order);
}

void Buddy::remove(FrameIndex block, unsigned order) {
  Frame& frame = (*frames_)[block];
  const unsigned t = frame.value();
  lists_[order][t].remove(*frames_, block);
  if (--counts_[order][t] == 0) nonempty_[t] = static_cast<std::uint16_t>(nonempty_[t] & ~(1U << order));
  frame.set_packed(0);
  const auto type = static_cast<MigrateType>(t);
  subtract(counter(type), 1U << order);
  if (type == kCma) subtract(free_cma_, 1U << order);
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
  const FrameState state = free_state(block);
  for (; order < kMaxOrder; ++order) {
    const FrameIndex buddy = block ^ (1U << order);
    if ((*frames_)[buddy].packed() != FrameWord{.state = state, .order = order}.packed()) break;
    if (order == kPageblockOrder && !may_merge_pageblocks(block)) break;
    remove(buddy, order);
    (*frames_)[block].set_packed(0);
    block &= buddy;
    const FrameIndex upper = block | 1U << order;
    if (order == kPageblockOrder && frames_->pageblock(block) != frames_->pageblock(upper)) {
      frames_->set_pageblock(block, kMovable);
      frames_->set_pageblock(upper, kMovable);
    }
  }
  insert(block, order, list_type(block));
}

// ---- Alloc ----

// Puts back what a block of `from` has beyond its first 2^to frames.
void Buddy::cut(FrameIndex block, unsigned from, unsigned to, MigrateType type) {
  while (from > to) {
    --from;
    insert(block + (1U << from), from, type);
  }
}

FrameIndex Buddy::take(unsigned order, MigrateType type) {
  const unsigned enough = orders(type) >> order;
  if (enough == 0) return kNoFrame;
  const unsigned from = order + static_cast<unsigned>(std::countr_zero(enough));
  const FrameIndex block = list(from, type).head();
  remove(block, from);
  cut(block, from, order, type);
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
  const auto owner = static_cast<MigrateType>((*frames_)[block].value());
  if (block_order >= kPageblockOrder) {
    remove(block, block_order);
    for (FrameIndex i = block; i < block + (1U << block_order); i += kPagesPerBlock) frames_->set_pageblock(i, type);
    cut(block, block_order, order, type);
    return block;
  }
  const bool large_enough = block_order >= kPageblockOrder / 2 || type != kMovable;
  if (large_enough && worth_claiming(block, type)) {
    relist(block, type, false);
    return take(order, type);
  }
  remove(block, block_order);
  cut(block, block_order, order, owner);
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
  const auto type = static_cast<MigrateType>((*frames_)[start].value());
  remove(start, kMaxOrder);
  insert(start, kPageblockOrder, type);
  insert(start + kPagesPerBlock, kPageblockOrder, type);
}

void Buddy::relist(FrameIndex in_pageblock, MigrateType type, bool isolated) {
  split_section(in_pageblock);
  const FrameIndex start = pageblock_start(in_pageblock);
  frames_->set_pageblock(start, type, isolated);
  for (FrameIndex i = start; i < start + kPagesPerBlock;) {
    const FrameWord word = (*frames_)[i].word();
    if (word.state == FrameState::kFree || word.state == FrameState::kCmaIdle) {
      remove(i, word.order);
      insert(i, word.order, isolated ? kIsolate : type);
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
    remove(start, kPageblockOrder);
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
    remove(block.first, block.order);
    // Halve what reaches over an edge, keep the halves outside, until what is left lies within.
    while (block.first < i || block.first + (1U << block.order) > end) {
      --block.order;
      const FrameIndex upper = block.first + (1U << block.order);
      if (i >= upper) {
        insert(block.first, block.order, kIsolate);
        block.first = upper;
      } else {
        insert(upper, block.order, kIsolate);
      }
    }
    i = block.first + (1U << block.order);
  }
  return kNoFrame;
}

}  // namespace cadastre
