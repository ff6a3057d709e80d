// Promises: made only of what is spare above the watermarks, kept whatever others want.
#include <algorithm>

#include "mm/frames/page_allocator.hh"

namespace cadastre {
namespace {

constexpr ZoneKind highest_of(Share share) {
  return share == Share::kRam ? ZoneKind::kHighmem : ZoneKind::kNormal;
}
constexpr MigrateType type_of(Share share) {
  return share == Share::kRam ? MigrateType::kMovable : MigrateType::kUnmovable;
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

// A block of what is promised in the zone; what is lent instead leaves the promise as it is.
FrameIndex PageAllocatorBase::promised_from_zone(Booking& booking, Share share, unsigned id, unsigned order) {
  Zone& zone = zones_[id];
  const std::uint32_t size = 1U << order;
  const SpinlockGuard guard(zone.lock);
  const std::uint32_t left = booking.left_in(share, id);
  if (left < size) return kNoFrame;
  const FrameIndex block = zone.buddy.alloc(order, type_of(share), share == Share::kRam);
  if (block == kNoFrame || frames_.pageblock_type(block) == MigrateType::kCma) return block;
  zone.unpromise(size);
  booking.set_left(share, id, left - size);
  booking.taken_[Booking::index(share)].fetch_add(size, std::memory_order_relaxed);
  return block;
}

Result<Pfn> PageAllocatorBase::alloc_booked(Booking& booking, Share share, unsigned order, NodeId home) {
  if (order > kMaxOrder) return std::unexpected(Error::kInvalid);
  if (checked_ && fault_ != nullptr && fault_->should_fail()) return std::unexpected(Error::kNoMemory);
  const auto& zones = zonelists_[home][static_cast<unsigned>(highest_of(share))];
  const AllocFlags flags = share == Share::kRam ? kMovable : AllocFlags();
  while (true) {
    bool is_collected = false;  // by somebody who will let it go or leave as many
    for (const std::uint8_t id : zones.all()) {
      const FrameIndex block = promised_from_zone(booking, share, id, order);
      if (block != kNoFrame) return hand_out(block, order, flags, nullptr);
      is_collected = is_collected || zones_[id].isolated_frames() != 0;
    }
    if (order != 0 || booking.left(share) == 0 || !is_collected) return std::unexpected(Error::kNoMemory);
    wait();
  }
}

Result<> PageAllocatorBase::free_booked(Booking& booking, Share share, Pfn block, unsigned order) {
  const auto checked = check_free(block, order, nullptr);
  if (!checked) return std::unexpected(checked.error());
  const FrameIndex index = *checked;
  Zone& zone = zone_of(index);
  const std::uint32_t size = 1U << order;
  const bool is_lent = frames_.pageblock_type(index) == MigrateType::kCma;
  const SpinlockGuard guard(zone.lock);
  zone.buddy.free(index, order);
  if (is_lent || zone.kind() > highest_of(share) || !booking.untake(share, size)) return {};
  const unsigned id = frames_.section_of(index).zone;
  zone.promise(size);
  booking.set_left(share, id, booking.left_in(share, id) + size);
  return {};
}

void PageAllocatorBase::charge(Booking& booking, Share share, std::uint32_t frames) {
  for (unsigned id = 0; id < kMaxZones && frames != 0; ++id) {
    Zone& zone = zones_[id];
    const SpinlockGuard guard(zone.lock);
    const std::uint32_t part = std::min(frames, booking.left_in(share, id));
    zone.unpromise(part);
    booking.set_left(share, id, booking.left_in(share, id) - part);
    booking.taken_[Booking::index(share)].fetch_add(part, std::memory_order_relaxed);
    frames -= part;
  }
}

}  // namespace cadastre
