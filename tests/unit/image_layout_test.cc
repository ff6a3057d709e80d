#include "hyp/config/layout.hh"

#include <random>

#include "tests/unit/config_test_support.hh"

namespace cadastre {
namespace {

constexpr std::uint64_t kRamBase = 0x4000'0000;

struct Placing {
  GuestPlan plan;
  Refusals refusals;
  bool is_placed = false;
  Image image;
};

Placing place(Bytes file, std::uint64_t memory, std::uint64_t initrd = 0, std::optional<std::uint64_t> offset = {}) {
  FakeRam ram;
  Placing result;
  result.plan = plan_of(ram, std::move(file), memory);
  result.plan.load_offset = offset;
  if (initrd != 0) {
    result.plan.initrd.is_given = true;
    result.plan.initrd.range = {.base = PhysAddr(0x7000'0000), .size = initrd};
  }
  const auto image = recognise_image(result.plan.kernel, ram, result.refusals);
  REQUIRE(image.has_value());
  result.image = image.value_or(RawImage());
  result.is_placed = place_guest(result.plan, result.image, result.refusals);
  REQUIRE_EQ(result.is_placed, result.refusals.empty());
  return result;
}

bool overlap(const IpaRange& a, const IpaRange& b) {
  return a.base < b.end() && b.base < a.end();
}

// What every layout must keep to.
void check_layout(const GuestPlan& plan) {
  const GuestLayout& layout = plan.layout;
  const IpaRange ram{.base = IpaAddr(kRamBase), .size = plan.memory};
  std::vector<IpaRange> parts = {layout.dtb};
  for (const GuestSegment& segment : layout.segments) {
    parts.push_back(segment.target);
    REQUIRE_LE(segment.source_size, segment.target.size);
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    REQUIRE(parts[i].base >= ram.base);
    REQUIRE(parts[i].end() <= ram.end());
    for (std::size_t j = i + 1; j < parts.size(); ++j) REQUIRE_FALSE(overlap(parts[i], parts[j]));
  }
  REQUIRE(layout.dtb.base.is_aligned(kPageSize));
  REQUIRE_EQ(layout.initrd.size, plan.initrd.range.size);
  if (layout.initrd.size != 0) REQUIRE(layout.segments.end()[-1].target.base == layout.initrd.base);
}

TEST_CASE("a zImage with room goes 32 MiB into RAM, device tree and initrd behind it") {
  const auto placing = place(zimage_file({.size = 5'448'192, .unpacked = 20'582'580}), 128 * kMiB, 1'500'000);
  REQUIRE(placing.is_placed);
  const GuestLayout& layout = placing.plan.layout;
  check_layout(placing.plan);
  CHECK(layout.entry == IpaAddr(0x4200'0000));
  CHECK(layout.segments[0].target.base == layout.entry);
  CHECK(layout.segments[0].source == PhysAddr(0x5000'0000));
  CHECK(layout.dtb.base >= layout.entry + 5'448'192 + 0x1'0000);
  CHECK(layout.initrd.base == layout.dtb.end());
  CHECK_FALSE(layout.is_thumb);
}

TEST_CASE("a kernel that unpacks beyond 32 MiB has its zImage behind that") {
  const auto placing = place(zimage_file({.unpacked = 40'000'000}), 128 * kMiB);
  REQUIRE(placing.is_placed);
  CHECK(placing.plan.layout.entry >= IpaAddr(kRamBase) + 40'000'000);
  CHECK(placing.plan.layout.entry.is_aligned(kBlockSize));
}

TEST_CASE("in a small guest the zImage moves down to what it unpacks") {
  const auto placing = place(zimage_file({.size = 0x10'0000, .unpacked = 0x30'0000}), 8 * kMiB, 0x1'0000);
  REQUIRE(placing.is_placed);
  check_layout(placing.plan);
  CHECK(placing.plan.layout.entry >= IpaAddr(kRamBase + 0x8000 + 0x30'0000));
  CHECK(placing.plan.layout.entry < IpaAddr(kRamBase) + (5 * kMiB));
}

TEST_CASE("a zImage that is linked for a place goes there") {
  const auto placing = place(zimage_file({.start = 0x4060'0000, .unpacked = 0x10'0000}), 16 * kMiB);
  REQUIRE(placing.is_placed);
  CHECK(placing.plan.layout.entry == IpaAddr(0x4060'0000));
  CHECK(refuses(place(zimage_file({.start = 0x2000'0000}), 16 * kMiB).refusals, "below RAM"));
  CHECK(refuses(place(zimage_file({.start = 0x6000'0000}), 1024 * kMiB).refusals, "within 128 MiB"));
}

TEST_CASE("a raw image enters where QEMU would enter it, or where it says") {
  const auto placing = place(raw_file(0x4000), 32 * kMiB, 0x1000);
  REQUIRE(placing.is_placed);
  check_layout(placing.plan);
  CHECK(placing.plan.layout.entry == IpaAddr(0x4001'0000));
  CHECK(placing.plan.layout.dtb.base == IpaAddr(0x4100'0000));
  const auto offset = place(raw_file(0x4000), 32 * kMiB, 0, 0x8000);
  CHECK(offset.plan.layout.entry == IpaAddr(0x4000'8000));
  CHECK(refuses(place(raw_file(64), 32 * kMiB, 0, 0x8002).refusals, "load-offset"));
  CHECK(refuses(place(raw_file(64), 32 * kMiB, 0, UINT64_MAX - 3).refusals, "load-offset"));
}

TEST_CASE("load-offset is for raw images alone") {
  CHECK(refuses(place(zimage_file({}), 128 * kMiB, 0, 0x8000).refusals, "load-offset", "a zImage"));
}

TEST_CASE("an ELF executable goes where its segments say, everything else beyond") {
  const auto file =
      elf_file(0x4000'8000, {{0x4000'8000, 0x4000'8000, 0x100, 0x100}, {0x4100'0000, 0x4100'0000, 8, kMiB}});
  const auto placing = place(file, 32 * kMiB, 0x1000);
  REQUIRE(placing.is_placed);
  check_layout(placing.plan);
  CHECK(placing.plan.layout.entry == IpaAddr(0x4000'8000));
  CHECK(placing.plan.layout.dtb.base == IpaAddr(0x4110'0000));
  CHECK(refuses(place(elf_file(0x8000, {{0x8000, 0x8000, 4, 4}}), 32 * kMiB).refusals, "0x8000, below RAM"));
  CHECK(refuses(place(file, 16 * kMiB).refusals, "needs 18 MiB"));
}

TEST_CASE("what does not fit is refused with what it needs") {
  const auto placing = place(zimage_file({.unpacked = 20'582'580}), 16 * kMiB);
  CHECK(refuses(placing.refusals, "/hypervisor/g/kernel (image)", "needs 20 MiB", "/hypervisor/g has 16 MiB"));
  const auto exact = place(zimage_file({.unpacked = 20'582'580}), 20 * kMiB);
  CHECK(exact.is_placed);
}

TEST_CASE("random kernels, initrds and sizes never overlap, and the unpacked kernel touches nothing that is needed") {
  std::mt19937_64 random(test_seed());
  const auto below = [&](std::uint64_t limit) { return random() % limit; };
  unsigned placed = 0;
  for (int round = 0; round < 400; ++round) {
    const ZImageFile file{.size = static_cast<std::size_t>(0x400 + below(0x2'0000)),
                          .start = below(4) == 0 ? static_cast<std::uint32_t>(kRamBase + (below(64) << 18)) : 0U,
                          .has_tags = below(4) != 0,
                          .unpacked = static_cast<std::uint32_t>(below(64 * kMiB)),
                          .bss = static_cast<std::uint32_t>(below(kMiB))};
    const auto placing = place(zimage_file(file), (1 + below(160)) * kMiB, below(2) * (1 + below(8 * kMiB)));
    if (!placing.is_placed) continue;
    ++placed;
    check_layout(placing.plan);
    const auto& zimage = std::get<ZImage>(placing.image);
    const GuestLayout& layout = placing.plan.layout;
    const IpaRange unpacked{.base = IpaAddr(kRamBase), .size = zimage.unpacked_end};
    REQUIRE_FALSE(overlap(unpacked, layout.dtb));
    REQUIRE((layout.initrd.size == 0 || !overlap(unpacked, layout.initrd)));
    // Where the decompressor is when it unpacks: in place, or moved behind the kernel.
    const IpaAddr at = std::max(layout.entry, unpacked.end());
    const IpaRange busy{.base = at, .size = file.size + zimage.work_size};
    REQUIRE_FALSE(overlap(busy, layout.dtb));
    REQUIRE((layout.initrd.size == 0 || !overlap(busy, layout.initrd)));
  }
  CHECK_GT(placed, 50);
}

}  // namespace
}  // namespace cadastre
