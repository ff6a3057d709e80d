#include "mm/boot/memblock.hh"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

using enum MemblockFlags;
constexpr std::uint64_t kMiB = 1U << 20U;
constexpr std::uint64_t kTopOfSpace = ~std::uint64_t{0};

// "RAM" at an address of the test's choice.
class FakeRam {
 public:
  FakeRam(PhysAddr base, std::size_t size) : base_(base), bytes_(size) {}
  unsigned cpu() { return 0; }
  std::byte* linear(PhysAddr a) { return bytes_.data() + (a - base_); }
  PhysAddr linear_address(const void* p) {
    return base_ + static_cast<std::uint64_t>(static_cast<const std::byte*>(p) - bytes_.data());
  }
  Pfn high_memory() { return frame_of(base_ + bytes_.size()); }
  std::byte* kmap(Pfn pfn) { return linear(address_of(pfn)); }
  void kunmap(std::byte* /*bytes*/) {}

 private:
  PhysAddr base_;
  std::vector<std::byte> bytes_;
};

class Lines final : public Log {
 public:
  void write_line(std::string_view line) override { lines.emplace_back(line); }
  std::vector<std::string> lines;
};

struct Free {
  std::uint64_t start;
  std::uint64_t end;
  friend bool operator==(const Free&, const Free&) = default;
};

std::vector<Free> free_ranges(const Memblock& memblock, NodeId nid = kNoNode, MemblockFlags flags = kNone) {
  std::vector<Free> all;
  memblock.for_each_free_range(
      nid, flags, [&](PhysAddr start, PhysAddr end, NodeId) { all.push_back({start.value(), end.value()}); });
  std::vector<Free> reversed;
  memblock.for_each_free_range_reverse(
      nid, flags, [&](PhysAddr start, PhysAddr end, NodeId) { reversed.push_back({start.value(), end.value()}); });
  std::ranges::reverse(reversed);
  REQUIRE_EQ(all.size(), reversed.size());
  REQUIRE(std::ranges::equal(all, reversed));
  return all;
}

void check_region(const MemblockRegion& region, std::uint64_t base, std::uint64_t size) {
  CHECK_EQ(region.base.value(), base);
  CHECK_EQ(region.size, size);
}

TEST_CASE("memblock: ranges that touch or overlap become one, others stay apart and sorted") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x8000), 0x1000));
  REQUIRE(memblock.add(PhysAddr(0x2000), 0x1000));
  CHECK_EQ(memblock.memory().cnt, 2);
  check_region(memblock.memory().regions[0], 0x2000, 0x1000);
  REQUIRE(memblock.add(PhysAddr(0x3000), 0x1000));  // touches
  check_region(memblock.memory().regions[0], 0x2000, 0x2000);
  REQUIRE(memblock.add(PhysAddr(0x1000), 0x1800));  // overlaps the bottom
  check_region(memblock.memory().regions[0], 0x1000, 0x3000);
  REQUIRE(memblock.add(PhysAddr(0x2000), 0x100));  // within
  CHECK_EQ(memblock.memory().cnt, 2);
  REQUIRE(memblock.add(PhysAddr(0), 0x10000));  // covers all
  CHECK_EQ(memblock.memory().cnt, 1);
  check_region(memblock.memory().regions[0], 0, 0x10000);
  CHECK_EQ(memblock.memory().total_size, 0x10000);
}

TEST_CASE(
    "memblock: neighbours of another node or with other flags do not merge, and the older range keeps its "
    "own") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x1000), 0x1000, 0));
  REQUIRE(memblock.add(PhysAddr(0x2000), 0x1000, 1));
  REQUIRE(memblock.add(PhysAddr(0x3000), 0x1000, 1, kNomap));
  CHECK_EQ(memblock.memory().cnt, 3);
  REQUIRE(memblock.add(PhysAddr(0), 0x5000, 1));
  CHECK_EQ(memblock.memory().cnt, 5);
  CHECK_EQ(memblock.memory().regions[1].nid, 0);
  REQUIRE(memblock.set_node(PhysAddr(0), 0x5000, 1));
  CHECK_EQ(memblock.memory().cnt, 3);
  REQUIRE(memblock.clear_flags(PhysAddr(0), kTopOfSpace, kNomap));
  CHECK_EQ(memblock.memory().cnt, 1);
  CHECK_EQ(memblock.memory().total_size, 0x5000);
}

TEST_CASE("memblock: a size of zero changes nothing and is no error") {
  Memblock memblock;
  CHECK(memblock.add(PhysAddr(0x1000), 0));
  CHECK(memblock.reserve(PhysAddr(0x1000), 0));
  CHECK_EQ(memblock.memory().cnt, 0);
  REQUIRE(memblock.add(PhysAddr(0x1000), 0x4000));
  CHECK(memblock.remove(PhysAddr(0x2000), 0));
  CHECK(memblock.phys_free(PhysAddr(0x2000), 0));
  CHECK_EQ(memblock.memory().cnt, 1);
  CHECK_EQ(memblock.reserved().cnt, 0);
}

TEST_CASE("memblock: a range that would wrap ends at the top of the address space") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(kTopOfSpace - 0x1000), 0x8000));
  check_region(memblock.memory().regions[0], kTopOfSpace - 0x1000, 0x1000);
  REQUIRE(memblock.reserve(PhysAddr(kTopOfSpace - 0x800), kTopOfSpace));
  check_region(memblock.reserved().regions[0], kTopOfSpace - 0x800, 0x800);
  REQUIRE(memblock.remove(PhysAddr(kTopOfSpace - 0x400), kTopOfSpace));
  check_region(memblock.memory().regions[0], kTopOfSpace - 0x1000, 0xc00);
}

TEST_CASE("memblock: removing splits, cuts and takes whole ranges") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x10000));
  REQUIRE(memblock.add(PhysAddr(0x30000), 0x10000));
  REQUIRE(memblock.remove(PhysAddr(0x14000), 0x1000));
  CHECK_EQ(memblock.memory().cnt, 3);
  check_region(memblock.memory().regions[0], 0x10000, 0x4000);
  check_region(memblock.memory().regions[1], 0x15000, 0xb000);
  REQUIRE(memblock.remove(PhysAddr(0x1f000), 0x12000));
  check_region(memblock.memory().regions[1], 0x15000, 0xa000);
  check_region(memblock.memory().regions[2], 0x31000, 0xf000);
  REQUIRE(memblock.remove(PhysAddr(0), kTopOfSpace));
  CHECK_EQ(memblock.memory().cnt, 0);
  CHECK_EQ(memblock.memory().total_size, 0);
}

TEST_CASE("memblock: free is memory without what is reserved and without NOMAP") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x10000, 0));
  REQUIRE(memblock.add(PhysAddr(0x40000), 0x10000, 1));
  REQUIRE(memblock.reserve(PhysAddr(0x0), 0x11000));
  REQUIRE(memblock.reserve(PhysAddr(0x18000), 0x30000));
  REQUIRE(memblock.set_flags(PhysAddr(0x4f000), 0x1000, kNomap));
  CHECK(free_ranges(memblock) == std::vector<Free>{{0x11000, 0x18000}, {0x48000, 0x4f000}});
  CHECK(free_ranges(memblock, 1) == std::vector<Free>{{0x48000, 0x4f000}});
  CHECK(free_ranges(memblock, kNoNode, kNomap) ==
        std::vector<Free>{{0x11000, 0x18000}, {0x48000, 0x4f000}, {0x4f000, 0x50000}});
}

TEST_CASE("memblock: allocations come from the top, in bottom-up mode from the bottom, aligned as asked") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x10000));
  CHECK_EQ(memblock.alloc(0x100, 0x1000)->value(), 0x1f000);
  CHECK_EQ(memblock.alloc(0x100, 0)->value(), 0x1ff00);
  CHECK_EQ(memblock.alloc(1, 0x8000)->value(), 0x18000);
  memblock.set_bottom_up(true);
  CHECK_EQ(memblock.alloc(0x100, 64)->value(), 0x10000);
  CHECK_EQ(memblock.alloc(0x10, 64)->value(), 0x10100);
  CHECK_EQ(memblock.alloc(0x10, 0x1000)->value(), 0x11000);
  CHECK_EQ(memblock.alloc(0x10, 24).error(), Error::kInvalid);
  CHECK_EQ(memblock.alloc(0x10000, 64).error(), Error::kNoMemory);
}

TEST_CASE("memblock: the first page is never allocated, so 0 is never an answer") {
  for (const bool bottom_up : {false, true}) {
    Memblock memblock;
    memblock.set_bottom_up(bottom_up);
    REQUIRE(memblock.add(PhysAddr(0), 0x2000));
    CHECK_EQ(memblock.alloc(0x1000, 0x1000)->value(), 0x1000);
    CHECK_EQ(memblock.alloc(16, 16).error(), Error::kNoMemory);
  }
}

TEST_CASE("memblock: a range limits alloc_range at both ends, and current_limit the rest") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x100000));
  CHECK_EQ(memblock.alloc_range(0x1000, 0x1000, PhysAddr(0x20000), PhysAddr(0x30000))->value(), 0x2f000);
  CHECK_EQ(memblock.alloc_range(0x10000, 0x1000, PhysAddr(0x20000), PhysAddr(0x30000)).error(), Error::kNoMemory);
  memblock.set_current_limit(PhysAddr(0x20000));
  CHECK_EQ(memblock.alloc(0x1000, 0x1000)->value(), 0x1f000);
  CHECK_EQ(memblock.alloc_try_nid(0x1000, 0x1000, PhysAddr(0), PhysAddr(0x80000), kNoNode)->value(), 0x1e000);
}

TEST_CASE("memblock: the lowest address is a wish, dropped when nothing above it fits") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x10000));
  REQUIRE(memblock.reserve(PhysAddr(0x18000), 0x8000));
  CHECK_EQ(memblock.alloc_try_nid(0x1000, 0x1000, PhysAddr(0x18000), Memblock::kAccessible, kNoNode)->value(), 0x17000);
  CHECK_EQ(memblock.alloc_range(0x1000, 0x1000, PhysAddr(0x18000), Memblock::kAccessible).error(), Error::kNoMemory);
}

TEST_CASE("memblock: a node is preferred or demanded") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x2000, 0));
  REQUIRE(memblock.add(PhysAddr(0x12000), 0x2000, 1));
  const auto from = [&](NodeId nid) {
    return memblock.alloc_try_nid(0x1000, 0x1000, PhysAddr(0), Memblock::kAccessible, nid);
  };
  CHECK_EQ(from(0)->value(), 0x11000);
  CHECK_EQ(from(0)->value(), 0x10000);
  CHECK_EQ(memblock.alloc_exact_nid(0x1000, 0x1000, PhysAddr(0), Memblock::kAccessible, 0).error(), Error::kNoMemory);
  CHECK_EQ(from(0)->value(), 0x13000);
  CHECK_EQ(memblock.alloc_exact_nid(0x1000, 0x1000, PhysAddr(0x13000), Memblock::kAccessible, 1)->value(), 0x12000);
}

TEST_CASE("memblock: mirrored memory goes first, hotpluggable memory is avoided on request, NOMAP is never given") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x1000, kNoNode, kMirror));
  REQUIRE(memblock.add(PhysAddr(0x20000), 0x1000));
  REQUIRE(memblock.add(PhysAddr(0x30000), 0x1000, kNoNode, kHotplug));
  REQUIRE(memblock.add(PhysAddr(0x40000), 0x1000, kNoNode, kNomap));
  memblock.set_avoid_hotplug(true);
  CHECK_EQ(memblock.alloc(0x1000, 0x1000)->value(), 0x10000);
  CHECK_EQ(memblock.alloc(0x1000, 0x1000)->value(), 0x20000);
  CHECK_EQ(memblock.alloc(0x1000, 0x1000).error(), Error::kNoMemory);
  memblock.set_avoid_hotplug(false);
  CHECK_EQ(memblock.alloc(0x1000, 0x1000)->value(), 0x30000);
  CHECK_EQ(memblock.alloc(0x1000, 0x1000).error(), Error::kNoMemory);
}

TEST_CASE("memblock: trimming keeps whole multiples and drops what has none") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x10200), 0x3000));
  REQUIRE(memblock.add(PhysAddr(0x20100), 0xe00));
  REQUIRE(memblock.add(PhysAddr(0x30000), 0x1000));
  memblock.trim_memory(0x1000);
  REQUIRE_EQ(memblock.memory().cnt, 2);
  check_region(memblock.memory().regions[0], 0x11000, 0x2000);
  check_region(memblock.memory().regions[1], 0x30000, 0x1000);
  CHECK_EQ(memblock.memory().total_size, 0x3000);
}

TEST_CASE("memblock: a memory limit keeps the lowest bytes, a cap keeps a range and all NOMAP") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x10000));
  REQUIRE(memblock.add(PhysAddr(0x40000), 0x10000));
  REQUIRE(memblock.reserve(PhysAddr(0x48000), 0x1000));
  REQUIRE(memblock.enforce_memory_limit(0x14000));
  CHECK_EQ(memblock.memory().total_size, 0x14000);
  CHECK_EQ(memblock.end_of_memory().value(), 0x44000);
  CHECK_EQ(memblock.reserved().cnt, 0);
  REQUIRE(memblock.set_flags(PhysAddr(0x10000), 0x1000, kNomap));
  REQUIRE(memblock.cap_memory_range(PhysAddr(0x1c000), 0x25000));
  REQUIRE_EQ(memblock.memory().cnt, 3);
  check_region(memblock.memory().regions[0], 0x10000, 0x1000);
  check_region(memblock.memory().regions[1], 0x1c000, 0x4000);
  check_region(memblock.memory().regions[2], 0x40000, 0x1000);
}

TEST_CASE("memblock: a limit of all there is drops reservations above it; a cap without any memory changes nothing") {
  Memblock memblock;
  REQUIRE(memblock.reserve(PhysAddr(0x48000), 0x1000));
  REQUIRE(memblock.cap_memory_range(PhysAddr(0x10000), 0x1000));
  CHECK_EQ(memblock.reserved().total_size, 0x1000);
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x10000));
  REQUIRE(memblock.reserve(PhysAddr(0x1f800), 0x1000));
  REQUIRE(memblock.enforce_memory_limit(0x10001));
  CHECK_EQ(memblock.reserved().total_size, 0x2000);
  REQUIRE(memblock.enforce_memory_limit(0x10000));
  CHECK_EQ(memblock.memory().total_size, 0x10000);
  REQUIRE_EQ(memblock.reserved().cnt, 1);
  check_region(memblock.reserved().regions[0], 0x1f800, 0x800);
}

TEST_CASE("memblock: a reservation's node is set apart from its memory's, and keeps it apart from its neighbours") {
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x10000));
  REQUIRE(memblock.reserve(PhysAddr(0x12000), 0x4000));
  REQUIRE(memblock.set_reserved_node(PhysAddr(0x10000), 0x4000, 1));
  REQUIRE_EQ(memblock.reserved().cnt, 2);
  check_region(memblock.reserved().regions[0], 0x12000, 0x2000);
  check_region(memblock.reserved().regions[1], 0x14000, 0x2000);
  CHECK_EQ(memblock.reserved().regions[0].nid, 1);
  CHECK_EQ(memblock.reserved().regions[1].nid, kNoNode);
  CHECK_EQ(memblock.memory().cnt, 1);
  CHECK_EQ(memblock.memory().regions[0].nid, kNoNode);
  REQUIRE(memblock.set_reserved_node(PhysAddr(0x14000), 0x4000, 1));
  REQUIRE_EQ(memblock.reserved().cnt, 1);
  check_region(memblock.reserved().regions[0], 0x12000, 0x4000);
}

TEST_CASE("memblock: questions about addresses and ranges") {
  Memblock memblock;
  CHECK_EQ(memblock.start_of_memory(), Memblock::kAnywhere);
  CHECK_EQ(memblock.end_of_memory(), PhysAddr(0));
  CHECK_FALSE(memblock.is_memory(PhysAddr(0)));
  REQUIRE(memblock.add(PhysAddr(0x10000), 0x1000));
  REQUIRE(memblock.add(PhysAddr(0x11000), 0x1000, kNoNode, kNomap));
  REQUIRE(memblock.reserve(PhysAddr(0x10800), 0x100));
  CHECK(memblock.is_memory(PhysAddr(0x10fff)));
  CHECK_FALSE(memblock.is_memory(PhysAddr(0xffff)));
  CHECK_FALSE(memblock.is_memory(PhysAddr(0x12000)));
  CHECK(memblock.is_map_memory(PhysAddr(0x10000)));
  CHECK_FALSE(memblock.is_map_memory(PhysAddr(0x11000)));
  CHECK(memblock.is_region_memory(PhysAddr(0x10000), 0x1000));
  CHECK_FALSE(memblock.is_region_memory(PhysAddr(0x10800), 0x1000));
  CHECK(memblock.is_reserved(PhysAddr(0x10800)));
  CHECK_FALSE(memblock.is_reserved(PhysAddr(0x10900)));
  CHECK(memblock.is_region_reserved(PhysAddr(0x10000), 0x1000));
  CHECK_FALSE(memblock.is_region_reserved(PhysAddr(0x10900), 0x1000));
}

TEST_CASE("memblock: a full array is refused before the linear map is up, and doubles after") {
  const auto ram = std::make_unique<FakeRam>(PhysAddr(0x4000'0000), 4 * kMiB);
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x4000'0000), 4 * kMiB));
  for (std::size_t i = 0; i < Memblock::kInitialRegions; ++i) {
    REQUIRE(memblock.reserve(PhysAddr(0x4000'0000 + i * 0x2000), 0x1000));
  }
  const PhysAddr one_more(0x4000'0000 + Memblock::kInitialRegions * 0x2000);
  CHECK_EQ(memblock.reserve(one_more, 0x1000).error(), Error::kNoMemory);
  CHECK_EQ(memblock.reserved().cnt, Memblock::kInitialRegions);
  memblock.allow_resize(*ram);
  // Where the array would go by itself: it keeps clear of what is just being reserved.
  REQUIRE(memblock.reserve(PhysAddr(0x4000'0000 + 3 * kMiB), kMiB));
  CHECK_EQ(memblock.reserved().max, 2 * Memblock::kInitialRegions);
  CHECK_EQ(memblock.reserved().cnt, Memblock::kInitialRegions + 1);  // the array touches that range
  check_region(memblock.reserved().regions[Memblock::kInitialRegions], 0x4000'0000 + 3 * kMiB - 0x2000, kMiB + 0x2000);
  // Again: the first doubled array is given back.
  for (std::size_t i = 0; i < Memblock::kInitialRegions; ++i) {
    REQUIRE(memblock.reserve(PhysAddr(0x4010'0000 + i * 0x2000), 0x1000));
  }
  CHECK_EQ(memblock.reserved().max, 4 * Memblock::kInitialRegions);
  const std::uint64_t reserved = 2 * Memblock::kInitialRegions * 0x1000 + kMiB;
  CHECK_EQ(memblock.reserved().total_size, reserved + 4 * Memblock::kInitialRegions * sizeof(MemblockRegion));
}

TEST_CASE("memblock: a doubled array is in mirrored memory if there is room") {
  constexpr std::uint64_t kRam = 0x4000'0000;
  constexpr std::uint64_t kArray = 0x2000;  // 256 ranges, in whole pages
  const auto ram = std::make_unique<FakeRam>(PhysAddr(kRam), 4 * kMiB);
  Memblock memblock;
  memblock.allow_resize(*ram);
  REQUIRE(memblock.add(PhysAddr(kRam), 4 * kMiB));
  REQUIRE(memblock.set_flags(PhysAddr(kRam + kMiB), kArray, kMirror));
  for (std::size_t i = 0; i <= Memblock::kInitialRegions; ++i) {
    REQUIRE(memblock.reserve(PhysAddr(kRam + i * 0x1000), 0x800));
  }
  CHECK_EQ(memblock.reserved().max, 2 * Memblock::kInitialRegions);
  CHECK(memblock.is_reserved(PhysAddr(kRam + kMiB)));
  CHECK(memblock.is_reserved(PhysAddr(kRam + kMiB + kArray - 1)));
  for (std::size_t i = memblock.reserved().cnt; i <= 2 * Memblock::kInitialRegions; ++i) {  // no more room there
    REQUIRE(memblock.reserve(PhysAddr(kRam + kMiB + i * 0x1000), 0x800));
  }
  CHECK_EQ(memblock.reserved().max, 4 * Memblock::kInitialRegions);
  CHECK(memblock.is_reserved(PhysAddr(kRam + 4 * kMiB - 1)));
}

TEST_CASE("memblock: when the Nth doubling or allocation fails, nothing changed, and the same request works later") {
  constexpr std::uint64_t kRam = 0x4000'0000;
  constexpr std::uint64_t kFar = 0x8000'0000;  // where the arrays do not go
  constexpr std::uint64_t kStep = 4 * kPageSize;
  using Request = Result<> (*)(Memblock&, std::uint64_t at);
  // Each makes its array longer by one or two.
  constexpr Request kRequests[] = {
      [](Memblock& m, std::uint64_t at) { return m.add(PhysAddr(2 * kFar + at), kPageSize); },
      [](Memblock& m, std::uint64_t at) { return m.reserve(PhysAddr(kFar + at), 3 * kPageSize); },
      [](Memblock& m, std::uint64_t at) { return m.phys_free(PhysAddr(kFar + at + kPageSize), kPageSize); },
      [](Memblock& m, std::uint64_t at) { return m.remove(PhysAddr(kFar + at), kPageSize); },
      [](Memblock& m, std::uint64_t at) { return m.set_node(PhysAddr(kFar + at + 2 * kPageSize), kPageSize, 1); },
      [](Memblock& m, std::uint64_t) -> Result<> {
        const auto made = m.alloc(64, 64);
        return made ? Result<>() : std::unexpected(made.error());
      },
  };
  constexpr std::uint64_t kRounds = 120;
  const auto regions_of = [](const MemblockType& type) {
    std::vector<std::array<std::uint64_t, 3>> all;
    for (const MemblockRegion& r : type.all()) all.push_back({r.base.value(), r.size, r.nid});
    return all;
  };
  std::vector<std::array<std::uint64_t, 3>> memory;  // without a failure
  for (std::uint32_t nth = 0;; ++nth) {
    const auto ram = std::make_unique<FakeRam>(PhysAddr(kRam), kMiB);
    Memblock memblock;
    FaultInjector fault;
    memblock.allow_resize(*ram);
    memblock.set_current_limit(PhysAddr(kRam + kMiB));
    REQUIRE(memblock.add(PhysAddr(kRam), kMiB));
    REQUIRE(memblock.add(PhysAddr(kFar), kRounds * kStep));
    memblock.set_fault_injector(&fault);
    fault.arm(nth - 1);  // never, the first time
    unsigned failures = 0;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      for (const Request request : kRequests) {
        const auto memory_before = regions_of(memblock.memory());
        const std::size_t sizes = memblock.memory().max + memblock.reserved().max;
        const auto reserved_before = regions_of(memblock.reserved());
        const Result<> done = request(memblock, round * kStep);
        if (done) continue;
        ++failures;
        REQUIRE_EQ(done.error(), Error::kNoMemory);
        REQUIRE(regions_of(memblock.memory()) == memory_before);
        // A first doubling may stay when a second one fails; then its array is reserved.
        if (memblock.memory().max + memblock.reserved().max == sizes) {
          REQUIRE(regions_of(memblock.reserved()) == reserved_before);
        }
        REQUIRE(request(memblock, round * kStep));
      }
    }
    if (nth == 0) memory = regions_of(memblock.memory());
    CHECK(regions_of(memblock.memory()) == memory);
    // What the requests left, and the arrays, which have moved out of the object.
    std::uint64_t expected = kRounds * (2 * kPageSize + 64);
    for (const MemblockType* type : {&memblock.memory(), &memblock.reserved()}) {
      CHECK_GT(type->max, Memblock::kInitialRegions);
      expected += (type->max * sizeof(MemblockRegion) + kPageSize - 1) / kPageSize * kPageSize;
    }
    CHECK_EQ(memblock.reserved().total_size, expected);
    CHECK_EQ(failures, nth != 0 && fault.attempts() >= nth ? 1 : 0);
    if (nth != 0 && fault.attempts() < nth) break;
    REQUIRE_LT(nth, 1000);
  }
}

TEST_CASE("memblock: the memory array does not double when its old place could not be given back") {
  constexpr std::uint64_t kRam = 0x4000'0000;
  const auto pages_of = [](std::size_t regions) {
    return (regions * sizeof(MemblockRegion) + kPageSize - 1) & ~std::uint64_t{kPageSize - 1};
  };
  // Room for both arrays of `memory`, and for nothing else.
  const std::uint64_t size = pages_of(2 * Memblock::kInitialRegions) + pages_of(4 * Memblock::kInitialRegions);
  const auto ram = std::make_unique<FakeRam>(PhysAddr(kRam), size);
  Memblock memblock;
  memblock.allow_resize(*ram);
  memblock.set_current_limit(PhysAddr(kRam + size));
  REQUIRE(memblock.add(PhysAddr(kRam), size));
  for (std::size_t i = 0; memblock.memory().cnt < 2 * Memblock::kInitialRegions; ++i) {
    REQUIRE(memblock.add(PhysAddr(0x8000'0000 + i * 0x2000), 0x1000));
  }
  for (std::size_t i = 0; memblock.reserved().cnt < Memblock::kInitialRegions - 1; ++i) {
    REQUIRE(memblock.reserve(PhysAddr(0x8000'0000 + i * 0x2000), 0x1000));
  }
  const std::uint64_t reserved = memblock.reserved().total_size;
  CHECK_EQ(memblock.add(PhysAddr(0xf000'0000), 0x1000).error(), Error::kNoMemory);
  CHECK_EQ(memblock.memory().max, 2 * Memblock::kInitialRegions);
  CHECK_EQ(memblock.reserved().total_size, reserved);
}

TEST_CASE("memblock: the memory array doubles too, and its new place is reserved") {
  const auto ram = std::make_unique<FakeRam>(PhysAddr(0x4000'0000), kMiB);
  Memblock memblock;
  memblock.allow_resize(*ram);
  memblock.set_current_limit(PhysAddr(0x4010'0000));
  REQUIRE(memblock.add(PhysAddr(0x4000'0000), kMiB));
  for (std::size_t i = 0; i < 3 * Memblock::kInitialRegions; ++i) {
    REQUIRE(memblock.add(PhysAddr(0x8000'0000 + i * 0x2000), 0x1000));
  }
  CHECK_EQ(memblock.memory().cnt, 3 * Memblock::kInitialRegions + 1);
  CHECK_EQ(memblock.memory().max, 4 * Memblock::kInitialRegions);
  CHECK_EQ(memblock.reserved().total_size, 4 * Memblock::kInitialRegions * sizeof(MemblockRegion));
}

TEST_CASE("memblock: debug prints every change, dump every range") {
  Lines log;
  Memblock memblock;
  memblock.set_debug(&log);
  REQUIRE(memblock.add(PhysAddr(0x1000), 0x1000, 1));
  REQUIRE(memblock.alloc(0x10, 0x10));
  REQUIRE_EQ(log.lines.size(), 2);
  CHECK_EQ(log.lines[0], "memblock_add: [0x1000-0x1fff] 0x1000 bytes");
  CHECK_EQ(log.lines[1], "memblock_reserve: [0x1ff0-0x1fff] 0x10 bytes");
  log.lines.clear();
  memblock.dump(log);
  REQUIRE_EQ(log.lines.size(), 3);
  CHECK_EQ(log.lines[1], "  memory[0] [0x1000-0x1fff] 0x1000 bytes on node 1 flags 0x0");
}

TEST_CASE("memblock: a zeroed allocation is zeroed") {
  FakeRam ram(PhysAddr(0x4000'0000), 0x4000);
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x4000'0000), 0x4000));
  std::fill_n(ram.linear(PhysAddr(0x4000'0000)), 0x4000, std::byte{0xa5});
  const auto bytes = memblock.alloc_zeroed(ram, 100, 64);
  REQUIRE(bytes);
  CHECK(std::all_of(*bytes, *bytes + 100, [](std::byte b) { return b == std::byte{0}; }));
  const std::byte* nothing = nullptr;
  REQUIRE(memblock.free(ram, nothing, 0x4000'1000));
  CHECK_EQ(memblock.reserved().total_size, 100);
  REQUIRE(memblock.free(ram, *bytes, 100));
  CHECK_EQ(memblock.reserved().cnt, 0);
}

TEST_CASE("memblock: what is freed by its pointer was allocated, all of it, or nothing changes") {
  FakeRam ram(PhysAddr(0x4000'0000), 0x4000);
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(0x4000'0000), 0x4000));
  const std::byte* bytes = *memblock.alloc_zeroed(ram, 0x1000, 64);
  CHECK_EQ(memblock.free(ram, bytes - 0x800, 0x1000).error(), Error::kCorrupt);
  CHECK_EQ(memblock.free(ram, bytes - 0x800, 0x2000).error(), Error::kCorrupt);
  CHECK_EQ(memblock.reserved().total_size, 0x1000);
  // Two that touch, of different nodes, are two ranges, and may go in one.
  const PhysAddr below = ram.linear_address(bytes) - 0x1000;
  REQUIRE(memblock.reserve(below, 0x1000, 1));
  CHECK_EQ(memblock.reserved().cnt, 2);
  REQUIRE(memblock.free(ram, bytes - 0x1000, 0x2000));
  CHECK_EQ(memblock.free(ram, bytes, 0x1000).error(), Error::kCorrupt);
  CHECK_EQ(memblock.reserved().cnt, 0);
}

}  // namespace
}  // namespace cadastre
