// BasicGuestMemory: what leaves a guest, and what it shares with others. Included by guest_memory.hh, at its end.
#pragma once

namespace cadastre {

// ---- The end

template <GuestMemoryOperations O, Machine M>
std::optional<std::uint64_t> BasicGuestMemory<O, M>::release_some(std::uint64_t from, RamUse& use) {
  job_.reset();
  if (release_frames()) return from;
  const SpinlockGuard guard(lock_);
  const std::uint64_t past = stage2_.release_some(from, kReleasePages, [&](IpaAddr ipa, const Mapping& mapping) {
    if (mapping.attributes.memory() != Stage2Memory::kNormal) return;
    count_use(mapping, use);
    unmapped_[unmapped_count_++] = {frame_of(mapping.address), 1U << order_of(mapping.level), gfn_of(ipa)};
  });
  if (past < Stage2Tables::kInputSize || unmapped_count_ != 0) return past;
  return std::nullopt;
}

template <GuestMemoryOperations O, Machine M>
void BasicGuestMemory<O, M>::count_use(const Mapping& mapping, RamUse& use) {
  FrameTable& frames = host_.pages.frames();
  const FrameIndex index = frames.index_of(frame_of(mapping.address));
  const std::uint32_t count = 1U << order_of(mapping.level);
  use.by_zone[frames.section_of(index).zone] += count;
  if (frames.pageblock_type(index) == MigrateType::kCma) use.lent += count;
}

// The leaf is smaller than the block that it is a part of: each page goes by itself.
template <GuestMemoryOperations O, Machine M>
void BasicGuestMemory<O, M>::make_pages(Pfn page) {
  FrameTable& frames = host_.pages.frames();
  const FrameIndex head = frames.head_of(frames.index_of(page));
  if (frames[head].order() != 0) CHECK(host_.ownership.split(frames.pfn_of(head), 0));
}

// A step of freeing what was unmapped: some pages, or the scrubbing of a part of a block. Every block that begins in a leaf: a
// leaf that was merged is larger than its blocks. False: there is nothing.
template <GuestMemoryOperations O, Machine M>
bool BasicGuestMemory<O, M>::release_frames() {
  if (unmapped_count_ == 0) return false;
  FrameTable& frames = host_.pages.frames();
  for (std::uint32_t budget = kReleasePages; budget != 0 && unmapped_count_ != 0;) {
    Unmapped& leaf = unmapped_[unmapped_count_ - 1];
    if (leaf.pages == 1) make_pages(leaf.first);
    const FrameWord word = frames[frames.index_of(leaf.first)].word();
    const std::uint32_t size = 1U << word.order;
    std::uint32_t part = size - scrubbed_;
    if (word.state == FrameState::kGuestShared) {
      stop_sharing(leaf.first, leaf.gfn);
    } else {
      CHECK(is_guest(word.state) && word.owner == number_ && size <= leaf.pages);
      part = std::min(part, budget);
      tables_.scrub(leaf.first + scrubbed_, part);
      scrubbed_ += part;
      if (scrubbed_ == size) give_back(leaf.first, word.order, true);
    }
    budget -= part;
    if (word.state != FrameState::kGuestShared && scrubbed_ != size) continue;
    scrubbed_ = 0;
    leaf.first += size;
    leaf.gfn += size;
    leaf.pages -= size;
    if (leaf.pages == 0) --unmapped_count_;
  }
  return true;
}

// ---- Sharing

// The guest does not map the shared page at `gfn` any more. If nobody does it is free.
template <GuestMemoryOperations O, Machine M>
void BasicGuestMemory<O, M>::stop_sharing(Pfn page, Gfn gfn) {
  const SharerLists::Left left = host_.sharers.remove(page, number_, gfn);
  host_.sharers.destroy(left.sharer);
  if (left.page) give_back(page, 0, false);
}

template <GuestMemoryOperations O, Machine M>
Result<> BasicGuestMemory<O, M>::share_page(IpaAddr ipa, BasicGuestMemory& to) {
  const IpaAddr page = ipa.aligned_down(kPageSize);
  if (!ram_.contains(page, kPageSize) || !to.ram_.contains(page, kPageSize)) return std::unexpected(Error::kOutOfRange);
  if (to.mapping_at(page)) return std::unexpected(Error::kOverlap);
  Sharer* mine = nullptr;
  Sharer* theirs = nullptr;
  const Result<std::optional<Pfn>> shared = add_sharer(page, to.number_, mine, theirs);
  host_.sharers.destroy(mine);
  host_.sharers.destroy(theirs);
  if (!shared) return std::unexpected(shared.error());
  const std::optional<Pfn> frame = *shared;
  if (!frame) return {};
  tables_.clean_pages(*frame, 1);  // nobody writes to it any more
  const Result<> mapped = to.map_shared(page, *frame);
  if (!mapped) to.stop_sharing(*frame, gfn_of(page));
  return mapped;
}

// Counts `other` as one of the page's users, if there is a page, and protects it from writing. Takes the objects that it uses
// out of `mine` and `theirs`; what it leaves there is the caller's.
template <GuestMemoryOperations O, Machine M>
Result<std::optional<Pfn>> BasicGuestMemory<O, M>::add_sharer(IpaAddr page, OwnerId other, Sharer*& mine,
                                                              Sharer*& theirs) {
  const auto create = [&](OwnerId guest, Sharer*& sharer) -> Result<> {
    const Result<Sharer*> made = host_.sharers.create(guest, gfn_of(page));
    if (!made) return std::unexpected(made.error());
    sharer = *made;
    return {};
  };
  if (const Result<> made = create(number_, mine); !made) return std::unexpected(made.error());
  if (const Result<> made = create(other, theirs); !made) return std::unexpected(made.error());
  TableStock stock(tables_);
  if (const Result<> filled = stock.fill(kLastLevel - 1); !filled) return std::unexpected(filled.error());
  return with_stock(stock, [&]() -> Result<std::optional<Pfn>> {
    const auto mapping = stage2_.table().query(page);
    if (!mapping) return std::optional<Pfn>();
    if (mapping->attributes.memory() != Stage2Memory::kNormal) return std::unexpected(Error::kInvalid);
    const Pfn frame = frame_of(mapping->address);
    FrameTable& frames = host_.pages.frames();
    const bool is_new = !mapping->attributes.copy_on_write();
    if (is_new) {
      make_pages(frame);
      // A device may want it back.
      if (frames[frames.index_of(frame)].state() == FrameState::kCmaLent) return std::unexpected(Error::kBusy);
      if (const Result<> split = stage2_.share(page, kPageSize); !split) return std::unexpected(split.error());
      CHECK(host_.sharers.begin(frame, *std::exchange(mine, nullptr)));
    }
    if (const Result<> added = host_.sharers.add(frame, *theirs); !added) return std::unexpected(added.error());
    theirs = nullptr;
    return std::optional(frame);
  });
}

template <GuestMemoryOperations O, Machine M>
Result<> BasicGuestMemory<O, M>::map_shared(IpaAddr page, Pfn frame) {
  TableStock stock(tables_);
  if (const Result<> filled = stock.fill(kLastLevel - 1); !filled) return filled;
  return with_stock(stock, [&] {
    return stage2_.table().map_leaf(page, address_of(frame), kLastLevel,
                                    Stage2Attributes::ram().with_write(false).with_copy_on_write(true));
  });
}

}  // namespace cadastre
