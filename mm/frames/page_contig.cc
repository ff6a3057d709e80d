// Exact ranges: isolate the pageblocks, move out who can move, take what is free then.
#include <algorithm>

#include "mm/frames/page_allocator.hh"

namespace cadastre {
namespace {

constexpr unsigned kMoveRounds = 4;

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

Result<> PageAllocatorBase::isolate_pageblocks(FrameIndex first, FrameIndex end) {
  Zone& zone = zone_of(first);
  for (FrameIndex i = pageblock_start(first); i < end; i += kPagesPerBlock) {
    Result<> isolated;
    {
      const SpinlockGuard guard(zone.lock);
      isolated = zone.buddy.isolate(i);
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

Result<> PageAllocatorBase::isolate(Pfn first, Pfn past) {
  const auto begin = contiguous(first, past);
  if (!begin) return std::unexpected(begin.error());
  return isolate_pageblocks(*begin, *begin + (past - first));
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

// Everything in [first, end) becomes free, or kBusy.
Result<> PageAllocatorBase::empty_range(unsigned cpu, FrameIndex first, FrameIndex end) {
  for (FrameIndex i = first; i < end;) {
    const FrameIndex block = frames_.head_of(i);
    const FrameWord word = frames_[block].word();
    if (is_guest(word.state) && migrator_ != nullptr) {
      const auto moved = move_out(cpu, block);
      // kNotFound: it was given up meanwhile; a split block is looked at again, page by page.
      if (!moved && moved.error() != Error::kNotFound) return std::unexpected(Error::kBusy);
      if (frames_[block].state() == word.state && frames_[block].order() == word.order) {
        return std::unexpected(Error::kBusy);
      }
      continue;
    }
    if (word.state != FrameState::kFree && word.state != FrameState::kCmaIdle) return std::unexpected(Error::kBusy);
    i = block + (1U << word.order);
  }
  return {};
}

Result<> PageAllocatorBase::alloc_contig_range(unsigned cpu, Pfn first, Pfn past, FrameState state) {
  const auto begin = contiguous(first, past);
  if (!begin) return std::unexpected(begin.error());
  if (fault_ != nullptr && fault_->should_fail()) return std::unexpected(Error::kNoMemory);
  const FrameIndex end = *begin + (past - first);
  if (const auto isolated = isolate_pageblocks(*begin, end); !isolated) return isolated;
  drain(cpu);
  if (drain_others_ != nullptr) drain_others_(drain_context_);
  Zone& zone = zone_of(*begin);
  Result<> result = std::unexpected(Error::kBusy);
  // What is being freed by another CPU just now may need a second look.
  for (unsigned round = 0; round < kMoveRounds && !result; ++round) {
    result = empty_range(cpu, *begin, end);
    if (!result) continue;
    const SpinlockGuard guard(zone.lock);
    if (zone.buddy.take_range(*begin, end) != kNoFrame) {
      result = std::unexpected(Error::kBusy);
      continue;
    }
    for (FrameIndex i = *begin; i < end; ++i) {
      frames_[i].set_value(0);
      frames_[i].set_word({.state = state, .references = 1});
    }
  }
  unisolate_pageblocks(*begin, end);
  return result;
}

Result<> PageAllocatorBase::free_contig_range(unsigned cpu, Pfn first, Pfn past) {
  const auto begin = contiguous(first, past);
  if (!begin) return std::unexpected(begin.error());
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
