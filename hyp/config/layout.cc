#include "hyp/config/layout.hh"

#include <algorithm>
#include <memory>

#include "hyp/guest/guest_map.hh"

namespace cadastre {
namespace {

using guest_map::kRam;

constexpr std::uint64_t kRawOffset = 0x1'0000;  // where QEMU puts a flat binary, too
// [Linux arm/booting 4] A zImage lies in the first 128 MiB, and is best put above 32 MiB: what it unpacks
// goes below.
constexpr std::uint64_t kZImageEnd = 128 << 20;
constexpr std::uint64_t kZImageOffset = 32 << 20;
// QEMU's place for the initrd and the device tree: half of the RAM, at most this far.
constexpr std::uint64_t kFarOffset = 128 << 20;

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Offsets from the RAM's base up to here; the arithmetic below never wraps with them.
constexpr std::uint64_t kFarthest = std::uint64_t{1} << 40;

bool fits(const GuestPlan& plan, std::uint64_t end, Refusals& refusals) {
  if (end <= plan.memory) return true;
  refuse(refusals, plan.kernel, "does not fit: it needs {} of RAM and {} has {}: give it more memory",
         size_text(round_up(end, 1 << 20)).view(), plan.path.view(), size_text(plan.memory).view());
  return false;
}

bool is_load_offset_free(const GuestPlan& plan, const char* kind, Refusals& refusals) {
  if (!plan.load_offset) return true;
  refuse(refusals, plan.kernel, "load-offset is for raw images, and this is {}: remove it", kind);
  return false;
}

void add_segment(GuestLayout& layout, const GuestSegment& segment) {
  CHECK(layout.segments.push_back(segment));  // a kernel has kMaxSegments, an initrd one more
}

// The device tree at `offset` of the RAM, the initrd behind it. Returns where they end.
std::uint64_t place_behind(GuestPlan& plan, std::uint64_t offset) {
  GuestLayout& layout = plan.layout;
  offset = round_up(offset, kPageSize);
  layout.dtb = {.base = kRam + offset, .size = kGuestDtbRoom};
  offset += kGuestDtbRoom;
  if (!plan.initrd.is_given) return offset;
  layout.initrd = {.base = kRam + offset, .size = plan.initrd.range.size};
  add_segment(layout,
              {.source = plan.initrd.range.base, .source_size = plan.initrd.range.size, .target = layout.initrd});
  return offset + plan.initrd.range.size;
}

// The one segment of a zImage or a raw image.
void place_whole(GuestPlan& plan, std::uint64_t offset) {
  const PhysRange& source = plan.kernel.range;
  plan.layout.entry = kRam + offset;
  add_segment(
      plan.layout,
      {.source = source.base, .source_size = source.size, .target = {.base = plan.layout.entry, .size = source.size}});
}

//  RAM base        text offset                        32 MiB, or closer when RAM is short
//   | page tables | the kernel, once unpacked, .bss | the zImage | its stack, heap | DTB | initrd |
//                                                   ^ 2 MiB or 4 KiB aligned
//
// Nothing that is still needed lies where the decompressor or the kernel's .bss goes, so nothing is moved
// twice.
bool place(GuestPlan& plan, const ZImage& image, Refusals& refusals) {
  if (!is_load_offset_free(plan, "a zImage", refusals)) return false;
  const std::uint64_t size = plan.kernel.range.size;
  const std::uint64_t behind =
      round_up(image.work_size, kPageSize) + kGuestDtbRoom + plan.initrd.range.size + kPageSize;
  std::uint64_t offset = std::max(kZImageOffset, round_up(image.unpacked_end, kBlockSize));
  if (offset + size + behind > plan.memory || offset + size > kZImageEnd) {
    offset = round_up(image.unpacked_end, kPageSize);
  }
  if (image.start != 0) {
    if (image.start < kRam.value()) {
      refuse(refusals, plan.kernel, "a zImage linked for {:x}, below RAM at {}: build one that runs anywhere",
             image.start, kRam);
      return false;
    }
    offset = image.start - kRam.value();
  }
  if (offset + size > kZImageEnd) {
    refuse(refusals, plan.kernel, "a zImage that ends {} into RAM, which must be within {}: give a smaller kernel",
           size_text(offset + size).view(), size_text(kZImageEnd).view());
    return false;
  }
  place_whole(plan, offset);
  // One that is linked low is moved behind what it unpacks before it does so.
  const std::uint64_t moved = std::max(image.unpacked_end, offset);
  return fits(plan, place_behind(plan, moved + size + image.work_size), refusals);
}

// Raw images and ELF executables: device tree and initrd where QEMU puts them, well away from what the image
// uses behind its end without telling; closer when the image reaches there.
std::uint64_t place_far(GuestPlan& plan, std::uint64_t image_end) {
  const std::uint64_t far = std::min(plan.memory / 2, kFarOffset);
  return place_behind(plan, std::max(far, image_end));
}

bool place(GuestPlan& plan, const RawImage& /*image*/, Refusals& refusals) {
  const std::uint64_t offset = plan.load_offset.value_or(kRawOffset);
  if (offset % 4 != 0 || offset >= kFarthest) {
    refuse(refusals, plan.kernel, "load-offset {:x} is no place for ARM instructions: give a multiple of 4 within RAM",
           offset);
    return false;
  }
  place_whole(plan, offset);
  return fits(plan, place_far(plan, offset + plan.kernel.range.size), refusals);
}

bool place(GuestPlan& plan, const ElfImage& image, Refusals& refusals) {
  if (!is_load_offset_free(plan, "an ELF file", refusals)) return false;
  std::uint64_t end = 0;
  for (const ImageSegment& segment : image.segments) {
    if (segment.address < kRam.value()) {
      refuse(refusals, plan.kernel, "an ELF segment at {:x}, below RAM at {}: link it for there", segment.address,
             kRam);
      return false;
    }
    end = std::max(end, segment.address + segment.memory_size - kRam.value());
    add_segment(plan.layout, {.source = plan.kernel.range.base + segment.offset,
                              .source_size = segment.file_size,
                              .target = {.base = IpaAddr(segment.address), .size = segment.memory_size}});
  }
  plan.layout.entry = IpaAddr(image.entry);
  plan.layout.is_thumb = image.is_thumb;
  return fits(plan, place_far(plan, end), refusals);
}

}  // namespace

bool place_guest(GuestPlan& plan, const Image& image, Refusals& refusals) {
  std::construct_at(&plan.layout);
  if (const auto* zimage = std::get_if<ZImage>(&image)) return place(plan, *zimage, refusals);
  if (const auto* elf = std::get_if<ElfImage>(&image)) return place(plan, *elf, refusals);
  return place(plan, RawImage(), refusals);
}

}  // namespace cadastre
