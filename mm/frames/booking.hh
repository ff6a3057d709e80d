// What the page allocator has promised to one user, and he has not taken yet.
//
//   zone   [ in use | on CPUs' lists |  free: promised to a | to b | spare ........ watermarks ]
//                |                            ^                          ^ everybody's requests
//   a's booking: [ at hand ] <----- a batch --+   <- a larger block -----> a's other requests
//                     |
//                     +---------------------------- a page ---------------> most of a's requests
//
// A promise is a count in a zone, not frames that lie idle somewhere: under the zone's lock there are always as many free frames
// as are promised, whoever allocates. So a page that was promised is there, and a larger block is when the free frames are not
// too scattered. What a CMA area lends does not count: its device may want it back.
//
// Single pages of RAM are taken out of a zone and its promise a batch at a time. The rest of a batch is put aside, at hand for
// this user on whatever CPU, so that most of his requests take no zone's lock and split no block. It is promised to him as it was
// before, and it goes back when the zones lack it for a larger block of his.
//
// Usage: pages.book(booking, Share::kRam, 32768, node), then pages.alloc_booked(booking, ...) and pages.free_booked(booking, ...),
// by which the promise is as before; pages.cancel(booking) at the end.
#pragma once

#include <array>
#include <cstdint>

#include "mm/base/relaxed.hh"
#include "mm/base/spinlock.hh"
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

  // Frames that are promised still. While others take and free, about right.
  [[nodiscard]] std::uint32_t left(Share share) const NO_THREAD_SAFETY_ANALYSIS {
    std::uint32_t frames = share == Share::kRam ? relaxed_load(at_hand_.count) : 0;
    for (const std::uint32_t& in_zone : left_[index(share)]) frames += relaxed_load(in_zone);
    return frames;
  }

 private:
  friend class PageAllocatorBase;

  // Linked through `next`, in use by nobody (PageAllocatorBase::hold).
  struct AtHand {
    FrameIndex head = kNoFrame;
    std::uint32_t count = 0;
  };
  static constexpr unsigned kShares = 2;
  [[nodiscard]] static constexpr unsigned index(Share share) { return static_cast<unsigned>(share); }
  // In one zone, whose lock the caller holds: with both locks it changes.
  [[nodiscard]] std::uint32_t left_in(Share share, unsigned zone) const { return left_[index(share)][zone]; }
  void set_left(Share share, unsigned zone, std::uint32_t frames) REQUIRES(lock_) {
    relaxed_store(left_[index(share)][zone], frames);
  }
  void take(Share share, std::uint32_t frames) REQUIRES(lock_) { taken_[index(share)] += frames; }
  // False when fewer than that were taken out of the promise.
  [[nodiscard]] bool untake(Share share, std::uint32_t frames) REQUIRES(lock_) {
    std::uint32_t& taken = taken_[index(share)];
    if (taken < frames) return false;
    taken -= frames;
    return true;
  }

  Spinlock lock_;  // a zone's is inside it
  AtHand at_hand_ GUARDED_BY(lock_);
  std::array<std::uint32_t, kShares> taken_ GUARDED_BY(lock_){};  // and in use
  std::array<std::array<std::uint32_t, kMaxZones>, kShares> left_{};
};

}  // namespace cadastre
