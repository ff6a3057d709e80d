#include "mm/frames/page_allocator.hh"

#include <algorithm>
#include <bit>
#include <utility>

namespace cadastre {
namespace {

constexpr unsigned kReclaimRounds = 16;
constexpr std::uint32_t kSetAside = 1;  // the value of a reserved frame that a CMA area may have

constexpr bool is_buddy(FrameState state) {
  return state == FrameState::kFree || state == FrameState::kCmaIdle;
}

// The largest order that a block starting at `first` and ending before `past` can have.
unsigned largest_order(FrameIndex first, FrameIndex past) {
  const auto alignment = static_cast<unsigned>(std::countr_zero(first | kFramesPerSection));
  return std::min(alignment, static_cast<unsigned>(std::bit_width(past - first)) - 1);
}

}  // namespace

// ---- Boot ----

// Rounded down to sections, a zone's promise still holds for all of it; and so it does for a last section that RAM fills in
// part, if RAM ends before the limit.
ZoneEdges zone_edges(const Memblock& memblock, Pfn high_memory, PhysAddr dma_limit) {
  const Pfn end_of_ram = frame_of(memblock.end_of_memory());
  const auto whole_sections = [&](Pfn limit) {
    return limit < end_of_ram ? limit.aligned_down(kFramesPerSection) : end_of_ram;
  };
  return {.normal = whole_sections(std::min(frame_of(dma_limit), high_memory)), .highmem = whole_sections(high_memory)};
}

void PageAllocatorBase::init_zones(const Memblock& memblock, Pfn high_memory, const PageAllocatorConfig& config) {
  distances_ = config.distances;
  log_ = config.log;
  for (unsigned id = 0; id < kMaxZones; ++id) {
    zones_[id].init(frames_, static_cast<NodeId>(id / kZoneKinds), static_cast<ZoneKind>(id % kZoneKinds));
  }
  const auto [normal, highmem] = zone_edges(memblock, high_memory, config.dma_limit);
  for (Section& section : frames_.sections()) {
    ZoneKind kind = ZoneKind::kDma;
    if (Pfn(section.first_pfn) >= normal) kind = ZoneKind::kNormal;
    if (Pfn(section.first_pfn) >= highmem) kind = ZoneKind::kHighmem;
    frames_.set_zone(section, static_cast<std::uint8_t>(section.nid * kZoneKinds + static_cast<unsigned>(kind)));
  }
  for (const MemblockRegion& region : memblock.memory().all()) {
    Pfn page = frame_of(region.base.aligned_up(kPageSize));
    const Pfn past = frame_of(region.end());
    report_shared_section(region.nid, page, past);
    while (page < past) {
      const Pfn next = std::min(past, page.aligned_down(kFramesPerSection) + kFramesPerSection);
      zone_of(frames_.index_of(page)).add_present(page, next);
      page = next;
    }
  }
}

// A section is of one node: that of its first RAM. What another node has of it counts as that one's.
void PageAllocatorBase::report_shared_section(NodeId nid, Pfn first, Pfn past) {
  if (log_ == nullptr || nid == kNoNode || first >= past) return;
  const NodeId owner = frames_.section_of(frames_.index_of(first)).nid;
  if (owner == nid) return;
  const Pfn end = std::min(past, first.aligned_down(kFramesPerSection) + kFramesPerSection);
  log_->print("pages: node {} begins at {}, inside 4 MiB of node {}: {} KiB of it count as node {}'s", nid,
              address_of(first), owner, (end - first) * (kPageSize >> 10U), owner);
}

void PageAllocatorBase::release(const Memblock& memblock) {
  memblock.for_each_free_range(kNoNode, MemblockFlags::kNone, [&](PhysAddr start, PhysAddr end, NodeId) {
    const Pfn first = frame_of(start.aligned_up(kPageSize));
    const Pfn past = frame_of(end);
    if (first < past) release_range(frames_.index_of(first), frames_.index_of(past - 1) + 1);
  });
  for (const MemblockRegion& region : memblock.reserved().all()) {
    if (has(region.flags, MemblockFlags::kPool)) set_aside(region);
  }
  update_after_adoption();
}

// Only where there is RAM, and only whole pages.
void PageAllocatorBase::set_aside(const MemblockRegion& reserved) {
  const Pfn past = frame_of(reserved.end());
  for (Pfn page = frame_of(reserved.base.aligned_up(kPageSize)); page < past; page += 1) {
    Frame* frame = frames_.find(page);
    if (frame != nullptr && frame->packed() == 0) frame->set_value(kSetAside);
  }
}

void PageAllocatorBase::release_range(FrameIndex first, FrameIndex past) {
  while (first < past) {
    const unsigned order = largest_order(first, past);
    if (poison_) fill(frames_.pfn_of(first), 1U << order, kPoison);
    Zone& zone = zone_of(first);
    const SpinlockGuard guard(zone.lock);
    zone.buddy.free(first, order);
    zone.add_managed(1U << order);
    first += 1U << order;
  }
}

void PageAllocatorBase::adopt(Pfn first, Pfn past) {
  const auto range = contiguous(first, past);
  if (!range) return report("cannot adopt", first);
  release_range(*range, *range + (past - first));
  update_after_adoption();
}

Result<> PageAllocatorBase::adopt_cma(Pfn first, Pfn past) {
  const auto range = contiguous(first, past);
  if (!range) return std::unexpected(range.error());
  const FrameIndex end = *range + (past - first);
  if (*range % kPagesPerBlock != 0 || end % kPagesPerBlock != 0) return std::unexpected(Error::kInvalid);
  for (FrameIndex i = *range; i < end; ++i) {
    if (frames_[frames_.head_of(i)].packed() != 0 || frames_[i].value() != kSetAside) {
      return std::unexpected(Error::kInvalid);
    }
  }
  for (FrameIndex i = *range; i < end; i += kPagesPerBlock) {
    Zone& zone = zone_of(i);
    const SpinlockGuard guard(zone.lock);
    frames_.set_pageblock(i, MigrateType::kCma);
  }
  release_range(*range, end);
  update_after_adoption();
  return {};
}

void PageAllocatorBase::update_after_adoption() {
  set_watermarks(zones_);
  build_zonelists();
  set_list_sizes();
}

void PageAllocatorBase::build_zonelists() {
  for (unsigned node = 0; node < kMaxNodes; ++node) {
    // Nearest first; the node itself is nearest of all.
    std::array<std::uint8_t, kMaxNodes> order{};
    for (unsigned i = 0; i < kMaxNodes; ++i) order[i] = static_cast<std::uint8_t>(i);
    std::ranges::sort(
        order, {}, [&](std::uint8_t to) { return (to == node ? 0U : distances_.between[node][to]) * kMaxNodes + to; });
    for (unsigned highest = 0; highest < kZoneKinds; ++highest) {
      Zonelist list;
      for (const std::uint8_t nid : order) {
        for (unsigned kind = highest + 1; kind-- > 0;) {
          const unsigned id = nid * kZoneKinds + kind;
          if (zones_[id].managed() != 0) list.zones[list.count++] = static_cast<std::uint8_t>(id);
        }
      }
      zonelists_[node][highest] = list;
    }
  }
  for (unsigned cpu = 0; cpu < kMaxCpus; ++cpu) set_cpu_node(cpu, per_cpu_[cpu].nid);
}

void PageAllocatorBase::set_cpu_node(unsigned cpu, NodeId nid) {
  CHECK(nid < kMaxNodes);
  PerCpu& mine = per_cpu_[cpu];
  mine.nid = nid;
  for (unsigned kind = 0; kind < kZoneKinds; ++kind)
    mine.first_list[kind] = static_cast<std::uint8_t>(zonelists_[nid][kind].zones[0] * kListedTypes);
}

// A few thousandths of the zone, at most 64 pages at once: enough to pay for the lock, too little to miss.
void PageAllocatorBase::set_list_sizes() {
  checked_ = poison_ || !history_.empty() || fault_ != nullptr;
  for (unsigned id = 0; id < kMaxZones; ++id) {
    const std::uint32_t pages = std::clamp<std::uint32_t>(zones_[id].managed() / 1024, 1, 64);
    const std::uint32_t old = std::exchange(batches_[id], static_cast<std::uint8_t>(checked_ ? 0 : pages));
    for (PerCpu& mine : per_cpu_) {
      for (unsigned list = id * kListedTypes; list < (id + 1) * kListedTypes; ++list) {
        PageList& hot = mine.hot[list];
        const std::uint32_t listed = old - hot.room;
        hot.room = batches_[id] > listed ? batches_[id] - listed : 0;
      }
    }
  }
}

// ---- Alloc ----

Result<Pfn> PageAllocatorBase::alloc_slow(unsigned cpu, NodeId nid, unsigned order, AllocFlags flags,
                                          const void* caller) {
  if (order > kMaxOrder) [[unlikely]]
    return std::unexpected(Error::kInvalid);
  if (checked_ && fault_ != nullptr && fault_->should_fail()) [[unlikely]]
    return std::unexpected(Error::kNoMemory);
  FrameIndex block = alloc_from_zones(cpu, nid, order, flags, Mark::kLow);
  if (block == kNoFrame) [[unlikely]]
    block = reclaim_and_alloc(cpu, nid, order, flags);
  if (block == kNoFrame) [[unlikely]]
    return std::unexpected(Error::kNoMemory);
  return hand_out(block, order, flags, caller);
}

Pfn PageAllocatorBase::hand_out(FrameIndex block, unsigned order, AllocFlags flags, const void* caller) {
  const bool lent = flags.has(kMovable) && frames_.pageblock_type(block) == MigrateType::kCma;
  Frame& frame = frames_[block];
  frame.set_value(0);
  frame.put_down(lent ? FrameState::kCmaIdle : FrameState::kFree,
                 {.state = lent ? FrameState::kCmaLent : FrameState::kHyp, .order = order, .references = 1});
  const Pfn pfn = frames_.pfn_of(block);
  if (checked_) [[unlikely]]
    inspect_alloc(block, order, caller);
  if (flags.has(kZero)) fill(pfn, 1U << order, std::byte{0});
  return pfn;
}

FrameIndex PageAllocatorBase::alloc_from_zones(unsigned cpu, NodeId nid, unsigned order, AllocFlags flags, Mark mark) {
  PerCpu& mine = per_cpu_[cpu];
  const ZoneKind highest = highest_zone(flags);
  const MigrateType type = migrate_type(flags);
  for (const std::uint8_t id : zonelists_[nid][static_cast<unsigned>(highest)].all()) {
    Zone& zone = zones_[id];
    if (flags.has(kThisNode) && zone.nid() != nid) break;
    const Watermarks& marks = zone.watermarks();
    // kAtomic goes down to three eighths of the minimum, but only on the second try: the first one says that memory is low.
    std::uint32_t kept = marks.low;
    if (mark == Mark::kMin) kept = flags.has(kAtomic) ? marks.min - marks.min / 2 - marks.min / 8 : marks.min;
    if (!zone.is_above(kept, order, highest, flags)) continue;
    const FrameIndex block = order == 0 ? page_from_zone(mine, id, flags) : block_from_zone(zone, order, type, flags);
    if (block != kNoFrame) return block;
  }
  return kNoFrame;
}

FrameIndex PageAllocatorBase::block_from_zone(Zone& zone, unsigned order, MigrateType type, AllocFlags flags) {
  const SpinlockGuard guard(zone.lock);
  return take_spare(zone, order, type, flags.has(kMovable));
}

FrameIndex PageAllocatorBase::take_spare(Zone& zone, unsigned order, MigrateType type, bool may_borrow) {
  if (zone.spare() >= 1U << order) return zone.buddy.alloc(order, type, may_borrow);
  return may_borrow ? zone.buddy.borrow(order) : kNoFrame;
}

FrameIndex PageAllocatorBase::page_from_zone(PerCpu& mine, unsigned id, AllocFlags flags) {
  const MigrateType type = migrate_type(flags);
  const unsigned list = id * kListedTypes + static_cast<unsigned>(type);
  if (const FrameIndex page = take_older(mine, list, flags); page != kNoFrame) return page;
  Zone& zone = zones_[id];
  if (batch(list) == 0 || flags.has(kCold)) return block_from_zone(zone, 0, type, flags);
  const SpinlockGuard guard(zone.lock);
  return refill(mine.hot[list], zone, type, flags);
}

// A page of what the CPU has: for cold ones only of the older list, else of the newer one, which the older one
// replaces when it is empty.
FrameIndex PageAllocatorBase::take_older(PerCpu& mine, unsigned list, AllocFlags flags) const {
  PageList& hot = mine.hot[list];
  OlderPages& older = mine.older[list];
  if (flags.has(kCold)) {
    if (older.head == kNoFrame) return kNoFrame;
    --older.count;
    return std::exchange(older.head, frames_[older.head].next);
  }
  if (hot.head == kNoFrame) {
    if (older.head == kNoFrame) return kNoFrame;
    hot = {.head = older.head, .room = batch(list) - older.count};
    older = {};
  }
  ++hot.room;
  return std::exchange(hot.head, frames_[hot.head].next);
}

// At most so many, in the smallest blocks that there are.
PageAllocatorBase::PageChain PageAllocatorBase::take_pages(Zone& zone, std::uint32_t most, MigrateType type,
                                                           std::uint32_t word) {
  PageChain chain;
  FrameIndex last = kNoFrame;
  while (chain.count != most) {
    const auto order = static_cast<unsigned>(std::bit_width(most - chain.count)) - 1;
    const Buddy::Block block = zone.buddy.take_up_to(order, type);
    if (block.first == kNoFrame) break;
    const std::uint32_t size = 1U << block.order;
    for (FrameIndex i = block.first; i < block.first + size; ++i) {
      frames_[i].put_down(FrameState::kFree, word);
      frames_[i].next = i + 1;
    }
    (last == kNoFrame ? chain.head : frames_[last].next) = block.first;
    last = block.first + size - 1;
    chain.count += size;
  }
  if (last != kNoFrame) frames_[last].next = kNoFrame;
  return chain;
}

// One page for the caller and the rest of a batch for the list, which is empty.
FrameIndex PageAllocatorBase::refill(PageList& list, Zone& zone, MigrateType type, AllocFlags flags) {
  const bool may_borrow = flags.has(kMovable);
  if (may_borrow && prefers_cma(zone)) return take_spare(zone, 0, type, true);
  const PageChain pages = take_pages(zone, std::min(list.room, zone.spare()), type, kCachedPage);
  if (pages.count == 0) return take_spare(zone, 0, type, may_borrow);
  list = {.head = frames_[pages.head].next, .room = list.room - pages.count + 1};
  return pages.head;
}

std::uint32_t PageAllocatorBase::deficit(NodeId nid, AllocFlags flags) const {
  std::uint32_t pages = 0;
  for (const std::uint8_t id : zonelists_[nid][static_cast<unsigned>(highest_zone(flags))].all()) {
    const std::uint32_t free = zones_[id].free_frames() - std::min(zones_[id].free_frames(), zones_[id].promised());
    const std::uint32_t high = zones_[id].watermarks().high;
    if (free < high) pages += high - free;
  }
  return pages;
}

FrameIndex PageAllocatorBase::reclaim_and_alloc(unsigned cpu, NodeId nid, unsigned order, AllocFlags flags) {
  pressure_.fetch_add(1, std::memory_order_relaxed);
  // Pages on this CPU's lists may be what a larger block lacks.
  drain(cpu);
  if (!flags.has(kAtomic)) shrinkers_.shrink(deficit(nid, flags));
  FrameIndex block = alloc_from_zones(cpu, nid, order, flags, Mark::kMin);
  const unsigned rounds = flags.has(kAtomic | kNoRetry) ? 0 : kReclaimRounds;
  for (unsigned round = 0; block == kNoFrame && round < rounds; ++round) {
    if (shrinkers_.shrink(std::max(deficit(nid, flags), 1U << order)) == 0) break;
    drain(cpu);
    block = alloc_from_zones(cpu, nid, order, flags, Mark::kMin);
  }
  if (block == kNoFrame && log_ != nullptr && !flags.has(kNoWarn)) {
    log_->print("pages: no block of order {} for {} on cpu {}", order, to_string(migrate_type(flags)), cpu);
  }
  return block;
}

void PageAllocatorBase::balance(unsigned cpu) {
  for (unsigned round = 0; round < kReclaimRounds; ++round) {
    const std::uint32_t pages = deficit(cpu_node(cpu), kHighmem);
    if (pages == 0 || shrinkers_.shrink(pages) == 0) return;
    drain(cpu);
  }
}

// ---- Free ----

Result<FrameIndex> PageAllocatorBase::check_free(Pfn block, unsigned order, const void* caller) {
  const FrameIndex index = frames_.index_of(block);
  const FrameWord word = index == kNoFrame ? FrameWord{} : frames_[index].word();
  if (!may_free(word.state) || word.order != order || word.references != 1) [[unlikely]] {
    const Result<> refused = refuse_free(block, order);
    return std::unexpected(refused.error());
  }
  // Nobody else sees what a guest wrote. What the hypervisor has taken back from it is scrubbed already.
  if (is_guest(word.state) && word.owner != kHypervisor) fill(block, 1U << order, std::byte{0});
  if (checked_) [[unlikely]]
    inspect_free(index, order, caller);
  return index;
}

Result<> PageAllocatorBase::free_slow(unsigned cpu, Pfn block, unsigned order, AllocFlags hint, const void* caller) {
  const Result<FrameIndex> checked = check_free(block, order, caller);
  if (!checked) [[unlikely]]
    return std::unexpected(checked.error());
  const FrameIndex index = *checked;
  if (order == 0) {
    give_back(cpu, index, hint);
  } else {
    Zone& zone = zone_of(index);
    const SpinlockGuard guard(zone.lock);
    zone.buddy.free(index, order);
  }
  return {};
}

Result<> PageAllocatorBase::refuse_free(Pfn block, unsigned order) {
  const Frame* frame = frames_.find(block);
  const FrameWord word = frame == nullptr ? FrameWord{} : frame->word();
  if (frame == nullptr) {
    report("free of what is no RAM", block);
  } else if (is_free(word.state)) {
    report("free of a free block", block);
  } else if (!is_allocated(word.state)) {
    report("free of what was never allocated", block);
  } else if (word.order != order) {
    report("free with the wrong order", block);
  } else if (word.state == FrameState::kSlab) {
    report("free of a slab", block);
  } else if (word.references == 0) {
    report("free of a block that is kept aside", block);
  } else {
    report(word.state == FrameState::kDmaPinned ? "free of a pinned block" : "free of a shared block", block);
  }
  return std::unexpected(Error::kCorrupt);
}

// A single page: to the CPU's list, if its pageblock has one.
void PageAllocatorBase::give_back(unsigned cpu, FrameIndex page, AllocFlags hint) {
  const unsigned list = frames_.page_list(page);
  if (list == FrameTable::kNoPageList || batch(list) == 0) {
    Zone& zone = zone_of(page);
    const SpinlockGuard guard(zone.lock);
    zone.buddy.free(page, 0);
    return;
  }
  PageList& hot = per_cpu_[cpu].hot[list];
  OlderPages& older = per_cpu_[cpu].older[list];
  const bool cold = hint.has(kCold);
  if (cold ? older.count == batch(list) : hot.room == 0) {
    drain_chain(list,
                std::exchange(older, cold ? OlderPages{} : OlderPages{.head = hot.head, .count = batch(list)}).head);
    if (!cold) hot = {.head = kNoFrame, .room = batch(list)};
  }
  Frame& frame = frames_[page];
  frame.set_packed(kCachedPage);
  frame.next = std::exchange(cold ? older.head : hot.head, page);
  if (cold) {
    ++older.count;
  } else {
    --hot.room;
  }
}

void PageAllocatorBase::drain_chain(unsigned list, FrameIndex head) {
  if (head == kNoFrame) return;
  Zone& zone = zone_of_list(list);
  const SpinlockGuard guard(zone.lock);
  while (head != kNoFrame) zone.buddy.free(std::exchange(head, frames_[head].next), 0);
}

void PageAllocatorBase::drain(unsigned cpu) {
  PerCpu& mine = per_cpu_[cpu];
  for (unsigned list = 0; list < FrameTable::kNoPageList; ++list) {
    drain_chain(list, std::exchange(mine.hot[list], {.head = kNoFrame, .room = batch(list)}).head);
    drain_chain(list, std::exchange(mine.older[list], {}).head);
  }
}

void PageAllocatorBase::drain_all(unsigned cpu) {
  drain(cpu);
  if (others_ != nullptr) others_->drain();
}

// ---- Debugging ----

void PageAllocatorBase::inspect_alloc(FrameIndex block, unsigned order, const void* caller) {
  if (poison_ && !is_filled(frames_.pfn_of(block), 1U << order, kPoison)) {
    report("written to while it was free", frames_.pfn_of(block));
  }
  if (!history_.empty()) history_[block].allocated_by = caller;
}

void PageAllocatorBase::inspect_free(FrameIndex block, unsigned order, const void* caller) {
  if (poison_) fill(frames_.pfn_of(block), 1U << order, kPoison);
  if (!history_.empty()) history_[block].freed_by = caller;
}

void PageAllocatorBase::set_poison(bool poison) {
  for (unsigned cpu = 0; cpu < kMaxCpus; ++cpu) drain(cpu);
  if (poison && !poison_) {
    for (FrameIndex i = 0; i < frames_.count();) {
      const FrameWord word = frames_[i].word();
      const std::uint32_t size = word.state == FrameState::kReserved ? 1 : 1U << word.order;
      if (is_buddy(word.state)) fill(frames_.pfn_of(i), size, kPoison);
      i += size;
    }
  }
  poison_ = poison;
  set_list_sizes();
}

void PageAllocatorBase::set_history(std::span<FrameHistory> one_per_frame) {
  CHECK(one_per_frame.empty() || one_per_frame.size() >= frames_.count());
  for (unsigned cpu = 0; cpu < kMaxCpus; ++cpu) drain(cpu);
  history_ = one_per_frame;
  set_list_sizes();
}

void PageAllocatorBase::set_fault_injector(FaultInjector* fault) {
  for (unsigned cpu = 0; cpu < kMaxCpus; ++cpu) drain(cpu);
  fault_ = fault;
  set_list_sizes();
}

Result<> PageAllocatorBase::hold(Pfn block, unsigned order) {
  Frame* frame = frames_.find(block);
  FrameWord word = frame == nullptr ? FrameWord{} : frame->word();
  if (word.state != FrameState::kHyp || word.order != order || word.references != 1) {
    report("what is not in use cannot be kept aside", block);
    return std::unexpected(Error::kCorrupt);
  }
  word.references = 0;
  frame->set_word(word);
  return {};
}

Result<> PageAllocatorBase::unhold(Pfn block) {
  Frame* frame = frames_.find(block);
  FrameWord word = frame == nullptr ? FrameWord{} : frame->word();
  if (word.state != FrameState::kHyp || word.references != 0) {
    report("what is not kept aside cannot be taken back", block);
    return std::unexpected(Error::kCorrupt);
  }
  word.references = 1;
  frame->set_word(word);
  return {};
}

void PageAllocatorBase::report(std::string_view what, Pfn pfn) {
  bad_frames_.fetch_add(1, std::memory_order_relaxed);
  if (log_ == nullptr) return;
  const FrameIndex index = frames_.index_of(pfn);
  if (index == kNoFrame) return log_->print("pages: {}: frame {}", what, pfn);
  const Frame& frame = frames_[index];
  const FrameWord word = frame.word();
  log_->print("pages: {}: frame {} state {} order {} owner {} references {} value {:x}", what, pfn,
              to_string(word.state), word.order, word.owner, word.references, frame.value());
  if (const FrameIndex head = frames_.head_of(index); head != index) {
    log_->print("pages:   inside the block at frame {}", frames_.pfn_of(head));
  }
  if (!history_.empty()) {
    log_->print("pages:   last allocated by {}, last freed by {}", history_[index].allocated_by,
                history_[index].freed_by);
  }
}

std::uint32_t PageAllocatorBase::free_frames() const {
  std::uint32_t frames = 0;
  for (const Zone& zone : zones_) frames += zone.free_frames();
  return frames;
}

}  // namespace cadastre
