// What the page allocator has promised to one user, and he has not taken yet.
//
//   zone   [ in use | on CPUs' lists |  free: promised to a | to b | spare ........ watermarks ]
//                                             ^ a's requests          ^ everybody's requests
//
// A promise is a count in a zone, not frames that lie idle somewhere: under the zone's lock there are always as many free frames
// as are promised, whoever allocates. So a page that was promised is there, and a larger block is when the free frames are not
// too scattered. What a CMA area lends does not count: its device may want it back.
//
// Usage: pages.book(booking, Share::kRam, 32768, node), then pages.alloc_booked(booking, ...) and pages.free_booked(booking, ...),
// by which the promise is as before; pages.cancel(booking) at the end.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "mm/base/relaxed.hh"
#include "mm/frames/zone.hh"

namespace cadastre {

// What memory is promised for.
enum class Share : std::uint8_t {
  kRam,     // movable, anywhere
  kTables,  // in the linear map
};

class Booking {
 public:
  constexpr Booking() = default;
  Booking(const Booking&) = delete;
  Booking& operator=(const Booking&) = delete;

  // Frames that are promised still, and those of them that were taken. While others take and free, about right.
  [[nodiscard]] std::uint32_t left(Share share) const {
    std::uint32_t frames = 0;
    for (const std::uint32_t& in_zone : left_[index(share)]) frames += relaxed_load(in_zone);
    return frames;
  }
  [[nodiscard]] std::uint32_t taken(Share share) const { return taken_[index(share)].load(std::memory_order_relaxed); }

 private:
  friend class PageAllocatorBase;

  static constexpr unsigned kShares = 2;
  [[nodiscard]] static constexpr unsigned index(Share share) { return static_cast<unsigned>(share); }
  // In one zone: the caller holds its lock, under which this changes.
  [[nodiscard]] std::uint32_t left_in(Share share, unsigned zone) const { return left_[index(share)][zone]; }
  void set_left(Share share, unsigned zone, std::uint32_t frames) { relaxed_store(left_[index(share)][zone], frames); }
  // False when fewer than that were taken out of the promise.
  [[nodiscard]] bool untake(Share share, std::uint32_t frames) {
    std::atomic<std::uint32_t>& taken = taken_[index(share)];
    std::uint32_t before = taken.load(std::memory_order_relaxed);
    do {
      if (before < frames) return false;
    } while (!taken.compare_exchange_weak(before, before - frames, std::memory_order_relaxed));
    return true;
  }

  std::array<std::array<std::uint32_t, kMaxZones>, kShares> left_{};
  std::array<std::atomic<std::uint32_t>, kShares> taken_{};
};

}  // namespace cadastre
