// Exact ranges: isolate the pageblocks, move out who can move, take what is free then.
#include <algorithm>

#include "mm/frames/page_allocator.hh"

namespace cadastre {
namespace {

constexpr unsigned kMoveRounds = 4;
constexpr unsigned kLooks = 64;  // at what is just about to be free

constexpr FrameIndex pageblock_start(FrameIndex index) {
  return index & ~(kPagesPerBlock - 1);
}

}  // namespace

// The first frame's index, if the frames of the range all exist and are in one zone.
Result<FrameIndex> PageAllocatorBase::contiguous(Pfn first, Pfn past) {
  if (first >= past) return std::unexpected(Error::kInvalid);
  const FrameIndex begin = frames_.index_of(first);
  const FrameIndex last = frames_.index_of(past - 1);
  // Sections are numbered in the order of addresses: without a hole indices are as far apart as frames.
  if (begin == kNoFrame || last == kNoFrame || last - begin != past - first - 1) {
    return std::unexpected(Error::kInvalid);
  }
  const std::uint8_t zone = frames_.section_of(begin).zone;
  for (FrameIndex i = begin; i <= last; i += kFramesPerSection) {
    if (frames_.section_of(i).zone != zone) return std::unexpected(Error::kInvalid);
  }
  if (frames_.section_of(last).zone != zone) return std::unexpected(Error::kInvalid);
  return begin;
}

// A CMA area's memory is for devices and, lent, for guests.
bool PageAllocatorBase::may_take(FrameIndex first, FrameIndex end, FrameState state) const {
  if (state != FrameState::kHyp) return true;
  for (FrameIndex i = pageblock_start(first); i < end; i += kPagesPerBlock) {
    if (frames_.pageblock_type(i) == MigrateType::kCma) return false;
  }
  return true;
}

Result<> PageAllocatorBase::isolate_pageblocks(FrameIndex first, FrameIndex end, const Booking* own) {
  Zone& zone = zone_of(first);
  for (FrameIndex i = pageblock_start(first); i < end; i += kPagesPerBlock) {
    Result<> isolated;
    {
      const SpinlockGuard guard(zone.lock);
      isolated = zone.buddy.isolate(i);
      if (isolated && zone.is_short(promised_to(own, i))) {
        zone.buddy.unisolate(i);
        isolated = std::unexpected(Error::kBusy);
      }
    }
    if (isolated) continue;
    unisolate_pageblocks(first, i);
    return isolated;
  }
  return {};
}

void PageAllocatorBase::unisolate_pageblocks(FrameIndex first, FrameIndex end) {
  Zone& zone = zone_of(first);
  for (FrameIndex i = pageblock_start(first); i < end; i += kPagesPerBlock) {
    const SpinlockGuard guard(zone.lock);
    zone.buddy.unisolate(i);
  }
}

Result<> PageAllocatorBase::isolate(Pfn first, Pfn past, const Booking* own) {
  const auto begin = contiguous(first, past);
  if (!begin) return std::unexpected(begin.error());
  return isolate_pageblocks(*begin, *begin + (past - first), own);
}

void PageAllocatorBase::unisolate(Pfn first, Pfn past) {
  if (const auto begin = contiguous(first, past)) unisolate_pageblocks(*begin, *begin + (past - first));
}

// The new place has the owner and the guest frame number before anyone can see it there.
Result<> PageAllocatorBase::move_out(unsigned cpu, FrameIndex block) {
  Frame& from = frames_[block];
  const FrameWord word = from.word();
  const Pfn from_pfn = frames_.pfn_of(block);
  const auto to = alloc_slow(cpu, word.order, kHighmem | kMovable | kNoWarn | kNoRetry, nullptr);
  if (!to) {
    if (word.order == 0) return std::unexpected(to.error());
    return migrator_->split(from_pfn);
  }
  Frame& target = frames_[frames_.index_of(*to)];
  FrameWord moved = target.word();
  if (moved.state != FrameState::kCmaLent) {
    moved.state = word.state == FrameState::kGuestShared ? FrameState::kGuestShared : FrameState::kGuest;
  }
  moved.owner = word.owner;
  moved.references = word.references;
  target.set_value(from.value());
  target.set_word(moved);
  if (const auto migrated = migrator_->migrate(from_pfn, *to, word.order); !migrated) {
    moved.references = 1;
    target.set_word(moved);
    if (const auto freed = free_slow(cpu, *to, word.order, {}, nullptr); !freed) return freed;
    return migrated;
  }
  FrameWord left = from.word();
  left.references = 1;
  from.set_word(left);
  return free_slow(cpu, from_pfn, word.order, {}, nullptr);
}

// As it is between two changes of the free lists.
PageAllocatorBase::BlockAt PageAllocatorBase::block_at(FrameIndex index) {
  const SpinlockGuard guard(zone_of(index).lock);
  const FrameIndex first = frames_.head_of(index);
  return {.first = first, .word = frames_[first].word()};
}

// Everything in [first, end) becomes free, or something there stays.
std::expected<void, Obstacle> PageAllocatorBase::empty_range(unsigned cpu, FrameIndex first, FrameIndex end) {
  unsigned looks = 0;
  for (FrameIndex i = first; i < end;) {
    const BlockAt block = block_at(i);
    const FrameState state = block.word.state;
    const FrameIndex past = state == FrameState::kReserved ? i + 1 : block.first + (1U << block.word.order);
    if (state == FrameState::kFree || state == FrameState::kCmaIdle) {
      i = past;
      looks = 0;
      continue;
    }
    const Obstacle obstacle{.past = frames_.pfn_of(past - 1) + 1};
    // On its way from a list to its user or back, or on a CPU's list, which others have to drain.
    bool passing = state == FrameState::kReserved || state == FrameState::kCached;
    if (is_guest(state) && migrator_ != nullptr) {
      const auto moved = move_out(cpu, block.first);
      if (moved) {
        if (frames_[block.first].packed() != block.word.packed()) continue;
        return std::unexpected(obstacle);  // not split, though its user says so
      }
      if (moved.error() != Error::kNotFound) return std::unexpected(obstacle);
      passing = true;  // given up, and free when its user is done with that
    }
    if (!passing) return std::unexpected(obstacle);
    if (++looks == kLooks) return std::unexpected(Obstacle{.past = obstacle.past, .passing = true});
    spin_wait();
  }
  return {};
}

// The range's pageblocks are isolated: what becomes free in it stays free. What this CPU lists of it goes first, or it would
// be where pages move to.
std::expected<void, Obstacle> PageAllocatorBase::collect(unsigned cpu, FrameIndex first, FrameIndex end,
                                                         FrameState state, const Booking* own) {
  Zone& zone = zone_of(first);
  FrameIndex busy = first;
  drain(cpu);
  for (unsigned round = 0; round < kMoveRounds; ++round) {
    if (const auto emptied = empty_range(cpu, first, end); !emptied) return emptied;
    const SpinlockGuard guard(zone.lock);
    // What was freed into the range meanwhile may be promised: it is not to be had, then, before as much is free elsewhere.
    busy = zone.is_short(promised_to(own, first)) ? first : zone.buddy.take_range(first, end);
    if (busy != kNoFrame) continue;
    for (FrameIndex i = first; i < end; ++i) {
      const bool is_cma = frames_.pageblock_type(i) == MigrateType::kCma;
      frames_[i].put_down(is_cma ? FrameState::kCmaIdle : FrameState::kFree, {.state = state, .references = 1});
      frames_[i].set_value(0);
    }
    return {};
  }
  return std::unexpected(Obstacle{.past = frames_.pfn_of(busy) + 1, .passing = true});
}

std::expected<void, Obstacle> PageAllocatorBase::take_contig_range(unsigned cpu, Pfn first, Pfn past,
                                                                   FrameState state) {
  const auto begin = contiguous(first, past);
  if (!begin) return std::unexpected(Obstacle{.error = begin.error(), .past = past});
  if (fault_ != nullptr && fault_->should_fail()) {
    return std::unexpected(Obstacle{.error = Error::kNoMemory, .past = first + 1});
  }
  const FrameIndex end = *begin + (past - first);
  if (!may_take(*begin, end, state)) return std::unexpected(Obstacle{.error = Error::kInvalid, .past = past});
  // Somebody is collecting a part of it for himself.
  if (!isolate_pageblocks(*begin, end)) return std::unexpected(Obstacle{.past = first + 1, .passing = true});
  const auto taken = collect(cpu, *begin, end, state);
  unisolate_pageblocks(*begin, end);
  return taken;
}

bool PageAllocatorBase::may_be_emptied(Pfn first, Pfn past) {
  const auto begin = contiguous(first, past);
  if (!begin) return false;
  const FrameIndex end = *begin + (past - first);
  if (!may_take(*begin, end, FrameState::kHyp)) return false;
  for (FrameIndex i = *begin; i < end; i += kPagesPerBlock) {
    const FrameState state = frames_[frames_.head_of(i)].state();
    if (!is_free(state) && !(is_guest(state) && migrator_ != nullptr)) return false;
  }
  return true;
}

Result<> PageAllocatorBase::take_isolated_block(unsigned cpu, Pfn first, const Booking* own) {
  const auto begin = contiguous(first, first + kPagesPerBlock);
  if (!begin || *begin % kPagesPerBlock != 0) return std::unexpected(Error::kInvalid);
  const FrameIndex end = *begin + kPagesPerBlock;
  if (const auto emptied = empty_range(cpu, *begin, end); !emptied) return std::unexpected(emptied.error().error);
  Zone& zone = zone_of(*begin);
  const SpinlockGuard guard(zone.lock);
  if (zone.is_short(promised_to(own, *begin)) || zone.buddy.take_range(*begin, end) != kNoFrame)
    return std::unexpected(Error::kBusy);
  frames_[*begin].put_down(FrameState::kFree, {.state = FrameState::kHyp, .order = kPageblockOrder, .references = 1});
  frames_[*begin].set_value(0);
  return {};
}

Result<> PageAllocatorBase::alloc_contig_range(unsigned cpu, Pfn first, Pfn past, FrameState state,
                                               const Booking* own) {
  const auto begin = contiguous(first, past);
  if (!begin) return std::unexpected(begin.error());
  if (fault_ != nullptr && fault_->should_fail()) return std::unexpected(Error::kNoMemory);
  const FrameIndex end = *begin + (past - first);
  if (!may_take(*begin, end, state)) return std::unexpected(Error::kInvalid);
  if (const auto isolated = isolate_pageblocks(*begin, end, own); !isolated) return isolated;
  auto taken = collect(cpu, *begin, end, state, own);
  // Only now that it is worth it, and with the pageblocks isolated: what is freed meanwhile goes on no list.
  if (!taken && taken.error().passing) {
    drain_all(cpu);
    taken = collect(cpu, *begin, end, state, own);
  }
  unisolate_pageblocks(*begin, end);
  if (!taken) return std::unexpected(taken.error().error);
  return {};
}

Result<> PageAllocatorBase::free_contig_range(unsigned cpu, Pfn first, Pfn past) {
  const auto begin = contiguous(first, past);
  if (!begin) return std::unexpected(begin.error());
  // All of them, or none.
  for (FrameIndex i = *begin; i < *begin + (past - first); ++i) {
    const FrameWord word = frames_[i].word();
    const bool is_page = word.state == FrameState::kDmaPinned || word.state == FrameState::kHyp;
    if (is_page && word.order == 0 && word.references == 1) continue;
    report("free of a range that is not the caller's", frames_.pfn_of(i));
    return std::unexpected(Error::kCorrupt);
  }
  for (Pfn page = first; page < past; page += 1) {
    Frame& frame = frames_[frames_.index_of(page)];
    FrameWord word = frame.word();
    if (word.state == FrameState::kDmaPinned) {
      // A device wrote here what is not for others to read.
      fill(page, 1, std::byte{0});
      word.state = FrameState::kHyp;
      frame.set_word(word);
    }
    if (const auto freed = free_slow(cpu, page, 0, {}, __builtin_return_address(0)); !freed) return freed;
  }
  return {};
}

}  // namespace cadastre
