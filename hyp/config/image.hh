// What a guest's kernel file is: a Linux zImage, an ELF executable, or raw instructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>

#include "hyp/config/plan.hh"

namespace cadastre {

// Bytes of RAM, wherever its supplier maps them.
class PhysReader {
 public:
  PhysReader() = default;
  PhysReader(const PhysReader&) = delete;
  PhysReader& operator=(const PhysReader&) = delete;
  // The whole range is in RAM.
  virtual void read(PhysAddr from, std::span<std::byte> to) = 0;

 protected:
  ~PhysReader() = default;
};

// [Linux arm/booting; arch/arm/boot/compressed/head.S of the header's words]
struct ZImage {
  std::uint64_t start = 0;         // where it must be; 0: anywhere
  std::uint64_t unpacked_end = 0;  // where its kernel ends once it runs, from the RAM's base
  std::uint64_t work_size = 0;     // what the decompressor uses behind the image: its .bss, stack and heap
};

struct ImageSegment {
  std::uint64_t offset = 0;  // in the file
  std::uint64_t file_size = 0;
  std::uint64_t address = 0;  // physical, as the guest sees it
  std::uint64_t memory_size = 0;
};

struct ElfImage {
  InplaceVector<ImageSegment, GuestLayout::kMaxSegments> segments;
  std::uint64_t entry = 0;  // physical
  bool is_thumb = false;
};

struct RawImage {};

using Image = std::variant<RawImage, ZImage, ElfImage>;

// The module is loaded and lies in RAM. What is not an image is refused, with what it is when that can be
// told.
[[nodiscard]] std::optional<Image> recognise_image(const GuestModule& module, PhysReader& reader, Refusals& refusals);

}  // namespace cadastre
