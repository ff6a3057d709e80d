// A slab allocator over a fake machine's pages.
#pragma once

#include <algorithm>
#include <cstdint>

#include "mm/objects/slab.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/test.hh"

namespace cadastre {

inline constexpr SlabFlags kFast{};
inline constexpr SlabFlags kChecked = kRedZone | kPoisonObjects | kObjectHistory;

struct SlabFixture : PageFixture {
  explicit SlabFixture(std::uint64_t size = 32 * kMiB, SlabFlags flags = kFast) : PageFixture(size), slabs(pages) {
    REQUIRE(slabs.init(&log, flags));
  }
  ObjectCache& make(std::size_t size, SlabFlags flags = kFast, std::size_t align = sizeof(void*)) {
    const auto cache = slabs.create({.name = "test", .size = size, .align = align, .flags = flags});
    REQUIRE(cache);
    return **cache;
  }
  // Everything is back in the pages, but for what the caches of the allocator itself take.
  void check_nothing_lost(std::uint32_t hyp_before) {
    slabs.shrink_all();
    REQUIRE(slabs.audit());
    CHECK_EQ(counts().hyp, hyp_before);
  }
  std::uint32_t hyp_after_shrink() {
    slabs.shrink_all();
    return counts().hyp;
  }

  SlabAllocator<FakeMachine> slabs;
};

inline bool is_all(const void* pointer, std::size_t size, int value) {
  const auto* bytes = static_cast<const unsigned char*>(pointer);
  return std::all_of(bytes, bytes + size, [&](unsigned char byte) { return byte == value; });
}

}  // namespace cadastre
