#include "hyp/config/image.hh"

#include <random>

#include "tests/unit/config_test_support.hh"

namespace cadastre {
namespace {

struct Recognition {
  std::optional<Image> image;
  Refusals refusals;
};

Recognition recognise(Bytes file) {
  FakeRam ram;
  const GuestPlan plan = plan_of(ram, std::move(file));
  Recognition result;
  result.image = recognise_image(plan.kernel, ram, result.refusals);
  REQUIRE_EQ(ram.stray_reads, 0);
  REQUIRE_EQ(result.image.has_value(), result.refusals.empty());
  return result;
}

template <class T>
T recognised_as(Bytes file) {
  const auto result = recognise(std::move(file));
  REQUIRE(result.image.has_value());
  const Image image = result.image.value_or(RawImage());
  REQUIRE(std::holds_alternative<T>(image));
  return std::get<T>(image);
}

Bytes begins_with(std::initializer_list<unsigned> start) {
  Bytes bytes = raw_file(256);
  std::ranges::transform(start, bytes.begin(), [](unsigned b) { return static_cast<std::byte>(b); });
  return bytes;
}

TEST_CASE("a zImage tells how much its kernel takes") {
  const auto image =
      recognised_as<ZImage>(zimage_file({.unpacked = 20'000'000, .bss = 0x5000, .text_offset = 0x20'8000}));
  CHECK_EQ(image.start, 0);
  CHECK_EQ(image.unpacked_end, 0x20'8000 + 20'000'000 + 0x5000);
  CHECK_GE(image.work_size, 0x1'0000);
}

TEST_CASE("of a zImage without tags, or with tags beyond its end, the size is guessed from above") {
  CHECK_EQ(recognised_as<ZImage>(zimage_file({.has_tags = false})).unpacked_end, 0x8000 + (5 * 0x1000));
  Bytes odd = zimage_file({});
  put_word(odd, 0x38, 0xffe);
  CHECK_EQ(recognised_as<ZImage>(odd).unpacked_end, 0x8000 + (5 * 0x1000));
  Bytes beyond = zimage_file({});
  for (const std::uint32_t size_at : {0xffff'fffeU, 0xffdU}) {
    put_word(beyond, 0x88, size_at);
    CHECK_EQ(recognised_as<ZImage>(beyond).unpacked_end, 0x8000 + (5 * 0x1000));
  }
}

TEST_CASE("a zImage that is cut off or makes no sense is refused") {
  Bytes cut = zimage_file({.size = 0x2000});
  cut.resize(0x1000);
  CHECK(refuses(recognise(cut).refusals, "/hypervisor/g/kernel (image)", "truncated zImage, 4096 of 8192"));
  Bytes backwards = zimage_file({});
  put_word(backwards, 0x28, 0x8000);
  CHECK(refuses(recognise(backwards).refusals, "0x8000 to 0x1000"));
}

TEST_CASE("an ELF executable has its segments at physical addresses, its entry too") {
  const auto image = recognised_as<ElfImage>(
      elf_file(0xc000'8011, {{0xc000'8000, 0x4000'8000, 0x100, 0x200}, {0xc001'0000, 0x4001'0000, 0, 0x1000}}));
  REQUIRE_EQ(image.segments.size(), 2);
  CHECK_EQ(image.segments[0].address, 0x4000'8000);
  CHECK_EQ(image.segments[0].file_size, 0x100);
  CHECK_EQ(image.segments[0].memory_size, 0x200);
  CHECK_EQ(image.segments[1].file_size, 0);
  CHECK_EQ(image.entry, 0x4000'8010);
  CHECK(image.is_thumb);
}

TEST_CASE("ELF files for something else are refused with what they are") {
  const Bytes good = elf_file(0x4000'8000, {{0x4000'8000, 0x4000'8000, 0x40, 0x40}});
  const auto with = [&](std::size_t offset, unsigned value) {
    Bytes bytes = good;
    bytes.at(offset) = static_cast<std::byte>(value);
    return recognise(bytes);
  };
  CHECK(recognise(good).image.has_value());
  CHECK(refuses(with(4, 2).refusals, "64-bit"));
  CHECK(refuses(with(5, 2).refusals, "big-endian"));
  CHECK(refuses(with(18, 3).refusals, "another machine"));
  CHECK(refuses(with(16, 1).refusals, "not an executable"));
  CHECK(refuses(with(44, 0).refusals, "no program headers"));
  CHECK(refuses(with(44, 65).refusals, "more than 64"));
  CHECK(refuses(with(44, 4).refusals, "program headers are missing"));
  CHECK(refuses(with(42, 31).refusals, "unknown form"));
  CHECK(refuses(with(24, 0x40).refusals, "entry 0x40008040 is in none"));
}

TEST_CASE("ELF segments that cannot be are refused") {
  const auto segments = [](const std::vector<ElfPart>& parts) { return recognise(elf_file(0x4000'8000, parts)); };
  CHECK(refuses(segments({{0x4000'8000, 0x4000'8000, 0x40, 0x20}}).refusals, "more bytes in the file"));
  CHECK(refuses(segments({{0x4000'8000, 0x4000'8000, 64, 64}, {0, 0x4000'8030, 8, 8}}).refusals, "overlaps another"));
  Bytes cut = elf_file(0x4000'8000, {{0x4000'8000, 0x4000'8000, 0x100, 0x100}});
  cut.pop_back();
  CHECK(refuses(recognise(cut).refusals, "truncated ELF"));
  std::vector<ElfPart> many;
  many.reserve(9);
  for (std::uint32_t i = 0; i < 9; ++i) many.push_back({0x4000'8000 + (i * 64), 0x4000'8000 + (i * 64), 4, 4});
  CHECK(refuses(segments(many).refusals, "more than 8 segments"));
}

TEST_CASE("anything else is raw instructions") {
  (void)recognised_as<RawImage>(raw_file(4096));
}

TEST_CASE("files that are no images are refused with what they are") {
  CHECK(refuses(recognise(raw_file(63)).refusals, "63 bytes are not an image"));
  CHECK(refuses(recognise(begins_with({0x1f, 0x8b, 8})).refusals, "gzip"));
  CHECK(refuses(recognise(begins_with({0xfd, '7', 'z', 'X', 'Z', 0})).refusals, "xz"));
  CHECK(refuses(recognise(begins_with({0x28, 0xb5, 0x2f, 0xfd})).refusals, "zstd"));
  CHECK(refuses(recognise(begins_with({0xd0, 0x0d, 0xfe, 0xed})).refusals, "device tree"));
  CHECK(refuses(recognise(begins_with({'0', '7', '0', '7', '0', '1'})).refusals, "cpio", "initrd"));
  CHECK(refuses(recognise(begins_with({0x27, 0x05, 0x19, 0x56})).refusals, "uImage"));
  CHECK(refuses(recognise(begins_with({'#', '!', '/'})).refusals, "a script"));
  CHECK(refuses(recognise(Bytes(256, std::byte{'a'})).refusals, "text"));
  Bytes arm64 = raw_file(256);
  put_word(arm64, 0x38, 0x644d'5241);
  CHECK(refuses(recognise(arm64).refusals, "64-bit ARM"));
}

TEST_CASE("an image damaged at random is recognised or refused, and never read beyond its end") {
  std::mt19937_64 random(test_seed());
  const std::array<Bytes, 2> files = {
      zimage_file({.size = 300}), elf_file(0x4000'8000, {{0x4000'8000, 0x4000'8000, 64, 64}, {0, 0x4001'0000, 8, 99}})};
  for (int round = 0; round < 4000; ++round) {
    Bytes bytes = files.at(random() % files.size());
    for (std::size_t i = 1 + (random() % 3); i > 0; --i) bytes.at(random() % bytes.size()) = std::byte(random() & 0xff);
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    const auto result = recognise(bytes);
    if (!result.image) continue;
    const Image image = result.image.value_or(RawImage());
    const auto* elf = std::get_if<ElfImage>(&image);
    if (elf == nullptr) continue;
    for (const ImageSegment& segment : elf->segments) REQUIRE(segment.offset + segment.file_size <= bytes.size());
  }
}

}  // namespace
}  // namespace cadastre
