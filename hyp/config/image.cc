#include "hyp/config/image.hh"

#include <algorithm>
#include <array>
#include <string_view>

#include "hyp/config/elf.hh"

namespace cadastre {
namespace {

constexpr std::size_t kHeaderSize = 64;
using Header = std::array<std::byte, kHeaderSize>;

std::uint32_t little_endian(std::span<const std::byte> bytes, std::size_t offset) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = value << 8 | std::to_integer<std::uint32_t>(bytes[offset + i]);
  return value;
}

std::uint32_t read_word(const GuestModule& module, PhysReader& reader, std::uint64_t offset) {
  std::array<std::byte, 4> bytes{};
  reader.read(module.range.base + offset, bytes);
  return little_endian(bytes, 0);
}

// Files that people hand over by mistake.
struct Mistake {
  std::size_t offset;
  std::string_view magic;
  std::string_view name;
  std::string_view advice;
};

using namespace std::string_view_literals;
constexpr std::string_view kUnpack = "unpack it";
constexpr std::string_view kGiveZimage = "give a zImage, an ELF executable or a flat binary for 32-bit ARM";
constexpr std::array kMistakes = {
    Mistake{0, "\x1f\x8b"sv, "gzip-compressed", kUnpack},
    Mistake{0,
            "\xfd"
            "7zXZ\0"sv,
            "xz-compressed", kUnpack},
    Mistake{0, "BZh"sv, "bzip2-compressed", kUnpack},
    Mistake{0, "\x28\xb5\x2f\xfd"sv, "zstd-compressed", kUnpack},
    Mistake{0, "\x02\x21\x4c\x18"sv, "lz4-compressed", kUnpack},
    Mistake{0, "\x04\x22\x4d\x18"sv, "lz4-compressed", kUnpack},
    Mistake{0, "\x5d\0\0"sv, "lzma-compressed", kUnpack},
    Mistake{0, "\x27\x05\x19\x56"sv, "a U-Boot uImage", "give the zImage inside"},
    Mistake{0, "\xd0\x0d\xfe\xed"sv, "a device tree blob or a FIT image", kGiveZimage},
    Mistake{0, "070701"sv, "a cpio archive", "name it in an initrd node"},
    Mistake{0, "!<arch>"sv, "an archive or a Debian package", kGiveZimage},
    Mistake{0, "PK\3\4"sv, "a zip archive", kGiveZimage},
    Mistake{0, "#!"sv, "a script", kGiveZimage},
    Mistake{0x38, "ARMd"sv, "a 64-bit ARM kernel", kGiveZimage},
    Mistake{0x24, "\x01\x6f\x28\x18"sv, "a big-endian zImage", kGiveZimage},
};

bool has_at(const Header& header, std::size_t offset, std::string_view magic) {
  return std::ranges::equal(std::span(header).subspan(offset, magic.size()), std::as_bytes(std::span(magic)));
}

bool is_text(const Header& header) {
  return std::ranges::all_of(header, [](std::byte b) {
    const auto c = std::to_integer<char>(b);
    return (c >= ' ' && c <= '~') || c == '\n' || c == '\t' || c == '\r';
  });
}

bool is_mistake(const GuestModule& module, const Header& header, Refusals& refusals) {
  for (const Mistake& mistake : kMistakes) {
    if (!has_at(header, mistake.offset, mistake.magic)) continue;
    refuse(refusals, module, "not an image but {}: {}", mistake.name, mistake.advice);
    return true;
  }
  if (!is_text(header)) return false;
  refuse(refusals, module, "not an image but text: {}", kGiveZimage);
  return true;
}

// The zImage's header, from offset 0x24 on, in words:
//
//   | magic | start | end | endianness | magic 2 | tags |        tags: | 6 | "KLSZ" | size at | .bss | offset
//   | heap |
//
// `start` and `end` are addresses of the image as linked; `tags` and `size at` count from the image's
// beginning. The tags tell how much the kernel takes once it is unpacked (since Linux 4.15).
namespace zimage {
constexpr std::size_t kMagicOffset = 0x24;
constexpr std::uint32_t kMagic = 0x016f'2818;
constexpr std::size_t kStart = 0x28;
constexpr std::size_t kEnd = 0x2c;
constexpr std::size_t kMagic2Offset = 0x34;
constexpr std::uint32_t kMagic2 = 0x4545'4545;
constexpr std::size_t kTags = 0x38;
constexpr std::uint32_t kKernelSizeTag = 0x5a53'4c4b;
constexpr std::uint64_t kTagWords = 6;
constexpr std::uint64_t kTagSize = kTagWords * 4;

// Without tags: compressors reach a fifth at best; Linux' own offset and heap.
constexpr std::uint64_t kGuessedRatio = 5;
constexpr std::uint64_t kTextOffset = 0x8000;
constexpr std::uint64_t kHeapSize = 64 << 10;
// The decompressor's stack (4 KiB), .bss and a copy of the command line's tags.
constexpr std::uint64_t kBeyondHeap = 64 << 10;
}  // namespace zimage

ZImage zimage_of(const GuestModule& module, PhysReader& reader, const Header& header, std::uint64_t image_size) {
  using namespace zimage;
  ZImage image{.start = little_endian(header, kStart),
               .unpacked_end = kTextOffset + (kGuessedRatio * image_size),
               .work_size = kHeapSize + kBeyondHeap};
  const std::uint64_t tags = little_endian(header, kTags);
  if (little_endian(header, kMagic2Offset) != kMagic2 || tags + kTagSize > image_size) return image;
  std::array<std::byte, kTagSize> bytes{};
  reader.read(module.range.base + tags, bytes);
  const std::uint64_t size_at = little_endian(bytes, 8);
  if (little_endian(bytes, 0) < kTagWords || little_endian(bytes, 4) != kKernelSizeTag || size_at + 4 > image_size) {
    return image;
  }
  const std::uint64_t unpacked_size = read_word(module, reader, size_at);
  image.unpacked_end = little_endian(bytes, 16) + unpacked_size + little_endian(bytes, 12);
  image.work_size = little_endian(bytes, 20) + kBeyondHeap;
  return image;
}

std::optional<Image> recognise_zimage(const GuestModule& module, PhysReader& reader, const Header& header,
                                      Refusals& refusals) {
  const std::uint32_t start = little_endian(header, zimage::kStart);
  const std::uint32_t end = little_endian(header, zimage::kEnd);
  if (end <= start || end - start < kHeaderSize) {
    refuse(refusals, module, "a zImage whose header says it lies from {:x} to {:x}: give an undamaged file", start,
           end);
    return std::nullopt;
  }
  if (end - start > module.range.size) {
    refuse(refusals, module, "a truncated zImage, {} of {} bytes: give the whole file", module.range.size, end - start);
    return std::nullopt;
  }
  return zimage_of(module, reader, header, end - start);
}

}  // namespace

std::optional<Image> recognise_image(const GuestModule& module, PhysReader& reader, Refusals& refusals) {
  if (module.range.size < kHeaderSize) {
    refuse(refusals, module, "{} bytes are not an image: {}", module.range.size, kGiveZimage);
    return std::nullopt;
  }
  Header header{};
  reader.read(module.range.base, header);
  if (little_endian(header, zimage::kMagicOffset) == zimage::kMagic) {
    return recognise_zimage(module, reader, header, refusals);
  }
  if (is_elf(header)) {
    const auto elf = read_elf(module, reader, refusals);
    return elf ? std::optional<Image>(*elf) : std::nullopt;
  }
  if (is_mistake(module, header, refusals)) return std::nullopt;
  return RawImage();
}

}  // namespace cadastre
