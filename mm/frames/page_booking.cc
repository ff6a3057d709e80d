// Promises: made only of what is spare above the watermarks, kept whatever others want.
#include <algorithm>
#include <array>
#include <utility>

#include "mm/frames/page_allocator.hh"

namespace cadastre {
namespace {

constexpr ZoneKind highest_of(Share share) {
  return share == Share::kRam ? ZoneKind::kHighmem : ZoneKind::kNormal;
}
constexpr MigrateType type_of(Share share) {
  return share == Share::kRam ? MigrateType::kMovable : MigrateType::kUnmovable;
}
// What comes in batches.
constexpr bool is_page_of_ram(Share share, unsigned order) {
  return order == 0 && share == Share::kRam;
}

}  // namespace

std::uint32_t PageAllocatorBase::bookable(Share share) const {
  std::uint32_t frames = 0;
  for (const Zone& zone : zones_) {
    if (zone.managed() == 0 || zone.kind() > highest_of(share)) continue;
    const SpinlockGuard guard(zone.lock);
    frames += zone.spare() - std::min(zone.spare(), zone.watermarks().high);
  }
  return frames;
}

Result<> PageAllocatorBase::book(Booking& booking, Share share, std::uint32_t frames, NodeId home) {
  const SpinlockGuard booking_guard(booking.lock_);
  std::array<std::uint32_t, kMaxZones> promised{};
  std::uint32_t missing = frames;
  const auto& zones = zonelists_[home][static_cast<unsigned>(highest_of(share))];
  for (const std::uint8_t id : zones.all()) {
    Zone& zone = zones_[id];
    const SpinlockGuard guard(zone.lock);
    promised[id] = std::min(missing, zone.spare() - std::min(zone.spare(), zone.watermarks().high));
    zone.promise(promised[id]);
    booking.set_left(share, id, booking.left_in(share, id) + promised[id]);
    missing -= promised[id];
  }
  if (missing == 0) return {};
  for (const std::uint8_t id : zones.all()) {
    Zone& zone = zones_[id];
    const SpinlockGuard guard(zone.lock);
    zone.unpromise(promised[id]);
    booking.set_left(share, id, booking.left_in(share, id) - promised[id]);
  }
  return std::unexpected(Error::kNoMemory);
}

void PageAllocatorBase::cancel(Booking& booking) {
  const SpinlockGuard booking_guard(booking.lock_);
  put_back(booking);
  for (const Share share : {Share::kRam, Share::kTables}) {
    for (unsigned id = 0; id < kMaxZones; ++id) {
      Zone& zone = zones_[id];
      const SpinlockGuard guard(zone.lock);
      zone.unpromise(booking.left_in(share, id));
      booking.set_left(share, id, 0);
    }
    booking.taken_[Booking::index(share)] = 0;
  }
}

// What is at hand is free again, and promised as before.
void PageAllocatorBase::put_back(Booking& booking) {
  for (FrameIndex page = std::exchange(booking.at_hand_, {}).head; page != kNoFrame;) {
    const FrameIndex next = frames_[page].next;
    const unsigned id = frames_.section_of(page).zone;
    Zone& zone = zones_[id];
    const SpinlockGuard guard(zone.lock);
    zone.buddy.free(page, 0);
    zone.promise(1);
    booking.set_left(Share::kRam, id, booking.left_in(Share::kRam, id) + 1);
    page = next;
  }
}

// A block of what is promised in the zone; what is lent instead leaves the promise as it is. For a page of RAM, while none is at
// hand, a batch.
FrameIndex PageAllocatorBase::promised_from_zone(Booking& booking, Share share, unsigned id, unsigned order) {
  Zone& zone = zones_[id];
  const std::uint32_t size = 1U << order;
  const SpinlockGuard guard(zone.lock);
  const std::uint32_t left = booking.left_in(share, id);
  if (left < size) return kNoFrame;
  const auto settle = [&](std::uint32_t frames) REQUIRES(zone.lock, booking.lock_) {
    zone.unpromise(frames);
    booking.set_left(share, id, left - frames);
    booking.take(share, size);
  };
  if (is_page_of_ram(share, order) && !prefers_cma(zone)) {
    const PageChain pages =
        take_pages(zone, std::min<std::uint32_t>(left, batches_[id]), MigrateType::kMovable, kPageAtHand);
    if (pages.count != 0) {
      settle(pages.count);
      booking.at_hand_ = {.head = frames_[pages.head].next, .count = pages.count - 1};
      return pages.head;
    }
  }
  const FrameIndex block = zone.buddy.alloc(order, type_of(share), share == Share::kRam);
  if (block != kNoFrame && frames_.pageblock_type(block) != MigrateType::kCma) settle(size);
  return block;
}

FrameIndex PageAllocatorBase::take_at_hand(Booking& booking) {
  const FrameIndex page = booking.at_hand_.head;
  if (page == kNoFrame) [[unlikely]]
    return kNoFrame;
  booking.at_hand_ = {.head = frames_[page].next, .count = booking.at_hand_.count - 1};
  booking.take(Share::kRam, 1);
  return page;
}

FrameIndex PageAllocatorBase::take_promised(Booking& booking, Share share, unsigned order, NodeId home,
                                            bool& is_collected) {
  const SpinlockGuard guard(booking.lock_);
  if (is_page_of_ram(share, order)) {  // another CPU may have taken a batch
    if (const FrameIndex page = take_at_hand(booking); page != kNoFrame) return page;
  }
  while (true) {
    for (const std::uint8_t id : zonelists_[home][static_cast<unsigned>(highest_of(share))].all()) {
      const FrameIndex block = promised_from_zone(booking, share, id, order);
      if (block != kNoFrame) return block;
      is_collected = is_collected || zones_[id].isolated_frames() != 0;
    }
    // The zone may have had it, but for what is at hand.
    if (share != Share::kRam || booking.at_hand_.count == 0) return kNoFrame;
    put_back(booking);
  }
}

Result<Pfn> PageAllocatorBase::alloc_booked_slow(Booking& booking, Share share, unsigned order, NodeId home) {
  if (order > kMaxOrder) return std::unexpected(Error::kInvalid);
  if (checked_ && fault_ != nullptr && fault_->should_fail()) return std::unexpected(Error::kNoMemory);
  while (true) {
    bool is_collected = false;  // by somebody who will let it go or leave as many
    const FrameIndex block = take_promised(booking, share, order, home, is_collected);
    if (block != kNoFrame) return hand_out(block, order, share == Share::kRam ? kMovable : AllocFlags(), nullptr);
    if (order != 0 || booking.left(share) == 0 || !is_collected) return std::unexpected(Error::kNoMemory);
    wait();
  }
}

Result<Pfn> PageAllocatorBase::alloc_booked(Booking& booking, Share share, unsigned order, NodeId home) {
  if (is_page_of_ram(share, order) && !checked_) [[likely]] {
    booking.lock_.lock();
    const FrameIndex page = take_at_hand(booking);
    booking.lock_.unlock();
    if (page != kNoFrame) [[likely]] {
      frames_[page].set_packed(kFreshPage);
      return frames_.pfn_of(page);
    }
  }
  return alloc_booked_slow(booking, share, order, home);
}

Result<> PageAllocatorBase::free_booked(Booking& booking, Share share, Pfn block, unsigned order) {
  const auto checked = check_free(block, order, nullptr);
  if (!checked) return std::unexpected(checked.error());
  const FrameIndex index = *checked;
  const unsigned id = frames_.section_of(index).zone;
  Zone& zone = zones_[id];
  const std::uint32_t size = 1U << order;
  const bool is_lent = frames_.pageblock_type(index) == MigrateType::kCma;
  const SpinlockGuard booking_guard(booking.lock_);
  const SpinlockGuard guard(zone.lock);
  zone.buddy.free(index, order);
  if (is_lent || zone.kind() > highest_of(share) || !booking.untake(share, size)) return {};
  zone.promise(size);
  booking.set_left(share, id, booking.left_in(share, id) + size);
  return {};
}

void PageAllocatorBase::charge(Booking& booking, Share share, std::uint32_t frames) {
  const SpinlockGuard booking_guard(booking.lock_);
  put_back(booking);
  for (unsigned id = 0; id < kMaxZones && frames != 0; ++id) {
    Zone& zone = zones_[id];
    const SpinlockGuard guard(zone.lock);
    const std::uint32_t part = std::min(frames, booking.left_in(share, id));
    zone.unpromise(part);
    booking.set_left(share, id, booking.left_in(share, id) - part);
    booking.take(share, part);
    frames -= part;
  }
}

}  // namespace cadastre
