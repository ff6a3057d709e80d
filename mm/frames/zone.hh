// A node's memory by reach: a zone is a range of frames with a buddy system, its lock and its watermarks.
//
//   node n   [ DMA: 32-bit masters reach it ][ NORMAL: in the linear map ][ HIGHMEM: above it ]
//
// Edges are rounded down to sections (4 MiB), so a block never lies in two zones; RAM that ends in the middle of a section
// before the edge is the lower zone's to its end.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "mm/base/spinlock.hh"
#include "mm/frames/alloc_flags.hh"
#include "mm/frames/buddy.hh"

namespace cadastre {

enum class ZoneKind : std::uint8_t { kDma, kNormal, kHighmem };
inline constexpr unsigned kZoneKinds = 3;
inline constexpr unsigned kMaxZones = kMaxNodes * kZoneKinds;

[[nodiscard]] constexpr std::string_view to_string(ZoneKind kind) {
  switch (kind) {
    case ZoneKind::kDma:
      return "DMA";
    case ZoneKind::kNormal:
      return "Normal";
    case ZoneKind::kHighmem:
      return "HighMem";
  }
  return "corrupt";
}

// In frames. Above `high` all is well; below `low` shrinkers are asked; below `min` only kAtomic requests go.
struct Watermarks {
  std::uint32_t min = 0;
  std::uint32_t low = 0;
  std::uint32_t high = 0;
};

class Zone {
 public:
  constexpr Zone() = default;

  void init(FrameTable& frames, NodeId nid,
            ZoneKind kind) NO_THREAD_SAFETY_ANALYSIS {  // before there is a second CPU
    nid_ = nid;
    kind_ = kind;
    buddy.init(frames);
  }
  [[nodiscard]] NodeId nid() const { return nid_; }
  [[nodiscard]] ZoneKind kind() const { return kind_; }

  // Frames: from the first to past the last (`spanned`), those with RAM (`present`), those that the allocator
  // has ever been given (`managed`).
  [[nodiscard]] Pfn start() const { return start_; }
  [[nodiscard]] Pfn end() const { return end_; }
  [[nodiscard]] std::uint32_t spanned() const { return end_ - start_; }
  [[nodiscard]] std::uint32_t present() const { return present_; }
  [[nodiscard]] std::uint32_t managed() const { return relaxed_load(managed_); }
  void add_present(Pfn first, Pfn past);
  void add_managed(std::uint32_t frames) { relaxed_store(managed_, managed_ + frames); }

  [[nodiscard]] const Watermarks& watermarks() const { return watermarks_; }
  void set_watermarks(const Watermarks& watermarks) { watermarks_ = watermarks; }
  // Frames kept back from requests that could have gone to the `highest` kind of zone.
  [[nodiscard]] std::uint32_t reserve(ZoneKind highest) const { return reserve_[static_cast<unsigned>(highest)]; }
  void set_reserve(ZoneKind highest, std::uint32_t frames) { reserve_[static_cast<unsigned>(highest)] = frames; }

  // Free frames that are somebody's already, to take when he wants (mm/frames/booking.hh), and those that are nobody's: neither
  // promised nor a CMA area's.
  [[nodiscard]] std::uint32_t promised() const NO_THREAD_SAFETY_ANALYSIS { return relaxed_load(promised_); }
  [[nodiscard]] std::uint32_t spare() const NO_THREAD_SAFETY_ANALYSIS {
    const std::uint32_t kept = buddy.free_cma_frames() + promised();
    const std::uint32_t free = buddy.free_frames();
    return free > kept ? free - kept : 0;
  }
  void promise(std::uint32_t frames) REQUIRES(lock) { relaxed_store(promised_, promised_ + frames); }
  void unpromise(std::uint32_t frames) REQUIRES(lock) { relaxed_store(promised_, promised_ - frames); }
  // Whether the free frames are less than those promised, `own` of which do not count.
  [[nodiscard]] bool is_short(std::uint32_t own) const REQUIRES(lock) {
    return buddy.free_frames() - buddy.free_cma_frames() + own < promised_;
  }

  // May a request that could have gone to `highest` take a block of `order` and leave `mark` free? Without
  // the lock, so only about right when others allocate too.
  [[nodiscard]] bool is_above(std::uint32_t mark, unsigned order, ZoneKind highest,
                              AllocFlags flags) const NO_THREAD_SAFETY_ANALYSIS;

  [[nodiscard]] std::uint32_t free_frames() const NO_THREAD_SAFETY_ANALYSIS { return buddy.free_frames(); }
  [[nodiscard]] std::uint32_t free_cma_frames() const NO_THREAD_SAFETY_ANALYSIS { return buddy.free_cma_frames(); }
  [[nodiscard]] std::uint32_t isolated_frames() const NO_THREAD_SAFETY_ANALYSIS { return buddy.isolated_frames(); }

  mutable Spinlock lock;
  Buddy buddy GUARDED_BY(lock);

 private:
  NodeId nid_ = 0;
  ZoneKind kind_ = ZoneKind::kDma;
  Pfn start_;
  Pfn end_;
  std::uint32_t present_ = 0;
  std::uint32_t managed_ = 0;
  Watermarks watermarks_;
  std::uint32_t promised_ GUARDED_BY(lock) = 0;
  std::array<std::uint32_t, kZoneKinds> reserve_{};
};

// Watermarks and reserves of all zones from what they manage: `zones[nid * kZoneKinds + kind]`.
void set_watermarks(std::array<Zone, kMaxZones>& zones);

}  // namespace cadastre
