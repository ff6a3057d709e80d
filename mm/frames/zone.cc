#include "mm/frames/zone.hh"

#include <algorithm>

namespace cadastre {
namespace {

std::uint32_t square_root(std::uint64_t n) {
  std::uint64_t root = 0;
  for (std::uint64_t bit = std::uint64_t{1} << 31U; bit != 0; bit >>= 1U) {
    if ((root + bit) * (root + bit) <= n) root += bit;
  }
  return static_cast<std::uint32_t>(root);
}

// A lower zone keeps this part of the zones above it back from requests that those could have served. DMA
// memory is scarcer than NORMAL memory.
constexpr std::array<std::uint32_t, kZoneKinds> kReserveRatio = {256, 32, 1};

}  // namespace

void Zone::add_present(Pfn first, Pfn past) {
  if (present_ == 0) {
    start_ = first;
    end_ = past;
  }
  start_ = std::min(start_, first);
  end_ = std::max(end_, past);
  present_ += past - first;
}

bool Zone::is_above(std::uint32_t mark, unsigned order, ZoneKind highest, AllocFlags flags) const {
  std::uint32_t available = buddy.free_frames();
  const bool may_borrow_cma = flags.has(kMovable);
  available -= std::min(available, promised());
  if (!may_borrow_cma) available -= std::min(available, buddy.free_cma_frames());
  return available >= mark + reserve(highest) + (1U << order);
}

void set_watermarks(std::array<Zone, kMaxZones>& zones) {
  std::uint64_t low_memory = 0;  // pages that low zones manage
  for (const Zone& zone : zones) {
    if (zone.kind() != ZoneKind::kHighmem) low_memory += zone.managed();
  }
  // The classic rule: kilobytes to keep free = 4 * sqrt(kilobytes of low memory), at least 128 and at most
  // 256 K.
  const std::uint64_t kilobytes = low_memory * (kPageSize / 1024);
  const std::uint32_t min_kilobytes = std::clamp<std::uint32_t>(square_root(kilobytes * 16), 128, 256 * 1024);
  const std::uint64_t min_total = min_kilobytes / (kPageSize / 1024);
  for (Zone& zone : zones) {
    const std::uint32_t managed = zone.managed();
    if (managed == 0) continue;
    // High memory is for those who can wait: a token amount. A low zone's share is its part of low memory.
    const std::uint64_t min = zone.kind() == ZoneKind::kHighmem || low_memory == 0
                                  ? std::clamp<std::uint64_t>(managed / 1024, 32, 128)
                                  : min_total * managed / low_memory;
    // A zone of a few pages keeps no more than a part of them.
    const auto mark = static_cast<std::uint32_t>(std::min<std::uint64_t>(min, managed / 8));
    const std::uint32_t step = std::max(mark / 4, managed / 1000);
    zone.set_watermarks({.min = mark, .low = mark + step, .high = mark + 2 * step});
  }
  for (unsigned node = 0; node < kMaxNodes; ++node) {
    for (unsigned kind = 0; kind < kZoneKinds; ++kind) {
      std::uint64_t above = 0;
      for (unsigned highest = kind + 1; highest < kZoneKinds; ++highest) {
        above += zones[node * kZoneKinds + highest].managed();
        zones[node * kZoneKinds + kind].set_reserve(static_cast<ZoneKind>(highest),
                                                    static_cast<std::uint32_t>(above / kReserveRatio[kind]));
      }
    }
  }
}

}  // namespace cadastre
