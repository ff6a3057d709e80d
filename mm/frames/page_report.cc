// What the page allocator says about itself: the audit, and tables for people.
#include <bit>

#include "mm/frames/page_allocator.hh"

namespace cadastre {
namespace {

using Blocks = std::array<std::array<std::uint32_t, kMigrateTypes>, kMaxOrder + 1>;

void count(FrameCounts& counts, FrameState state, std::uint32_t frames) {
  using enum FrameState;
  switch (state) {
    case kReserved:
      break;  // what remains of all
    case kFree:
    case kCached:
      counts.free += frames;
      break;
    case kHyp:
    case kSlab:
      counts.hyp += frames;
      break;
    case kGuest:
      counts.guest += frames;
      break;
    case kGuestShared:
      counts.shared += frames;
      break;
    case kCmaIdle:
      counts.cma_idle += frames;
      break;
    case kCmaLent:
      counts.cma_lent += frames;
      break;
    case kDmaPinned:
      counts.pinned += frames;
      break;
    case kPoisoned:
      counts.poisoned += frames;
      break;
  }
}

}  // namespace

std::expected<FrameCounts, AuditFailure> PageAllocatorBase::audit() const {
  FrameCounts counts;
  const FrameTable& frames = frames_;
  const auto failure = [&](FrameIndex index, std::string_view what) {
    return std::unexpected(AuditFailure{.frame = frames.pfn_of(index), .what = what});
  };
  for (const Zone& zone : zones_) counts.frames += zone.present();

  for (unsigned id = 0; id < kMaxZones; ++id) {
    const Zone& zone = zones_[id];
    const SpinlockGuard guard(zone.lock);
    Blocks seen{};
    std::uint32_t cached = 0;
    std::uint32_t free = 0;
    std::uint32_t isolated = 0;
    std::uint32_t known = 0;
    FrameIndex first = 0;
    for (FrameIndex i = 0; i < frames.count();) {
      if (i % kFramesPerSection == 0 && frames.section_of(i).zone != id) {
        i += kFramesPerSection;
        continue;
      }
      if (first == 0) first = i;
      const FrameWord word = frames[i].word();
      if (word.state == FrameState::kReserved) {
        if (word.packed() != 0) return failure(i, "a reserved frame with an order, owner or references");
        ++i;
        continue;
      }
      const std::uint32_t size = 1U << word.order;
      if (word.order > kMaxOrder || i % size != 0) return failure(i, "a block that is not aligned to its size");
      for (FrameIndex inside = i + 1; inside < i + size; ++inside) {
        if (frames[inside].packed() != 0) return failure(inside, "a block within a block");
      }
      const bool cma = frames.pageblock_type(i) == MigrateType::kCma;
      if (word.state == FrameState::kFree || word.state == FrameState::kCmaIdle) {
        if (cma != (word.state == FrameState::kCmaIdle)) return failure(i, "CMA memory in another pageblock's state");
        const std::uint32_t type = frames[i].value();
        if (type >= kMigrateTypes) return failure(i, "a free block on no list");
        const auto listed = static_cast<MigrateType>(type);
        const bool is_isolated = frames.is_isolated(i);
        if (listed != (is_isolated ? MigrateType::kIsolate : frames.pageblock_type(i))) {
          return failure(i, "a free block on another type's list");
        }
        const FrameWord buddy = word.order < kMaxOrder ? frames[i ^ size].word() : FrameWord{};
        if (word.order < kPageblockOrder && buddy.packed() == word.packed()) {
          return failure(i, "a free block beside its free buddy");
        }
        ++seen[word.order][type];
        (is_isolated ? isolated : free) += size;
      } else if (word.state == FrameState::kCached) {
        if (word.order != 0) return failure(i, "a listed page of another order");
        ++cached;
      } else if (cma && word.state != FrameState::kCmaLent && word.state != FrameState::kDmaPinned &&
                 word.state != FrameState::kHyp && word.state != FrameState::kPoisoned) {
        return failure(i, "CMA memory that cannot be asked back");
      } else if (!cma && word.state == FrameState::kCmaLent) {
        return failure(i, "lent memory outside of a CMA area");
      }
      count(counts, word.state, size);
      known += size;
      i += size;
    }
    std::uint32_t listed = 0;
    for (const PerCpu& mine : per_cpu_) {
      for (unsigned list = id * kListedTypes; list < (id + 1) * kListedTypes; ++list) {
        listed += batch(list) - mine.hot[list].room + mine.older[list].count;
      }
    }
    if (listed != cached) return failure(first, "per-CPU lists that count other than their frames");
    if (zone.buddy.free_frames() != free || zone.buddy.isolated_frames() != isolated) {
      return failure(first, "a zone whose count of free frames is wrong");
    }
    if (known != zone.managed()) return failure(first, "a zone that has lost frames");
    if (isolated == 0 && zone.is_short(0)) return failure(first, "a zone that has promised more than is free");
    for (unsigned order = 0; order <= kMaxOrder; ++order) {
      for (unsigned type = 0; type < kMigrateTypes; ++type) {
        if (zone.buddy.blocks(order, static_cast<MigrateType>(type)) != seen[order][type]) {
          return failure(first, "a free list that counts other than its blocks");
        }
      }
    }
  }
  counts.reserved = counts.frames - counts.free - counts.hyp - counts.guest - counts.shared - counts.cma_idle -
                    counts.cma_lent - counts.pinned - counts.poisoned;
  return counts;
}

void PageAllocatorBase::print_zones(Log& log) const {
  for (const Zone& zone : zones_) {
    if (zone.present() == 0) continue;
    const Watermarks& marks = zone.watermarks();
    log.print("node {} zone {:-7} [{}-{}] spanned {} present {} managed {} free {} cma {} min {} low {} high {}",
              zone.nid(), to_string(zone.kind()), address_of(zone.start()), address_of(zone.end()) - 1, zone.spanned(),
              zone.present(), zone.managed(), zone.free_frames(), zone.free_cma_frames(), marks.min, marks.low,
              marks.high);
  }
}

void PageAllocatorBase::print_buddyinfo(Log& log) const {
  for (const Zone& zone : zones_) {
    if (zone.present() == 0) continue;
    std::array<std::uint32_t, kMaxOrder + 1> blocks{};
    {
      const SpinlockGuard guard(zone.lock);
      for (unsigned order = 0; order <= kMaxOrder; ++order) {
        for (unsigned type = 0; type < kMigrateTypes; ++type) {
          blocks[order] += zone.buddy.blocks(order, static_cast<MigrateType>(type));
        }
      }
    }
    static_assert(kMaxOrder == 10);
    log.print("Node {}, zone {:-8}{:7}{:7}{:7}{:7}{:7}{:7}{:7}{:7}{:7}{:7}{:7}", zone.nid(), to_string(zone.kind()),
              blocks[0], blocks[1], blocks[2], blocks[3], blocks[4], blocks[5], blocks[6], blocks[7], blocks[8],
              blocks[9], blocks[10]);
  }
}

void PageAllocatorBase::print_pagetypeinfo(Log& log) const {
  for (unsigned id = 0; id < kMaxZones; ++id) {
    const Zone& zone = zones_[id];
    if (zone.present() == 0) continue;
    std::array<std::uint32_t, kMigrateTypes> pageblocks{};
    for (FrameIndex i = 0; i < frames_.count(); i += kPagesPerBlock) {
      if (frames_.section_of(i).zone == id) ++pageblocks[static_cast<unsigned>(frames_.pageblock_type(i))];
    }
    for (unsigned t = 0; t < kMigrateTypes; ++t) {
      const auto type = static_cast<MigrateType>(t);
      std::array<std::uint32_t, kMaxOrder + 1> blocks{};
      {
        const SpinlockGuard guard(zone.lock);
        for (unsigned order = 0; order <= kMaxOrder; ++order) blocks[order] = zone.buddy.blocks(order, type);
      }
      log.print("Node {}, zone {:-8} type {:-11} pageblocks {:6} free{:6}{:6}{:6}{:6}{:6}{:6}{:6}{:6}{:6}{:6}{:6}",
                zone.nid(), to_string(zone.kind()), to_string(type), pageblocks[t], blocks[0], blocks[1], blocks[2],
                blocks[3], blocks[4], blocks[5], blocks[6], blocks[7], blocks[8], blocks[9], blocks[10]);
    }
  }
}

}  // namespace cadastre
