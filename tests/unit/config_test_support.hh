// What the configuration's tests share: guests in a device tree, their files in "RAM", and files of every kind.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "hyp/config/image.hh"
#include "hyp/config/plan_check.hh"
#include "tests/unit/dtb_test_support.hh"
#include "tests/unit/test.hh"

namespace cadastre {

using Bytes = std::vector<std::byte>;

// RAM that has bytes where a module was loaded. Reading anything else is what the code under test must never do.
class FakeRam final : public PhysReader {
 public:
  PhysRange load(PhysAddr base, Bytes bytes) {
    const PhysRange range{.base = base, .size = bytes.size()};
    modules_.push_back({base, std::move(bytes)});
    return range;
  }

  void read(PhysAddr from, std::span<std::byte> to) override {
    for (const Module& module : modules_) {
      if (from < module.base || from - module.base > module.bytes.size()) continue;
      const auto offset = static_cast<std::size_t>(from - module.base);
      if (to.size() > module.bytes.size() - offset) continue;
      std::ranges::copy(std::span(module.bytes).subspan(offset, to.size()), to.begin());
      return;
    }
    ++stray_reads;
    std::ranges::fill(to, std::byte{});
  }

  unsigned stray_reads = 0;

 private:
  struct Module {
    PhysAddr base;
    Bytes bytes;
  };
  std::vector<Module> modules_;
};

inline void put_word(Bytes& bytes, std::size_t offset, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) bytes.at(offset + i) = static_cast<std::byte>(value >> (8 * i));
}

// A file of this size that is none of the known kinds: `b .`, over and over.
inline Bytes raw_file(std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i + 4 <= size; i += 4) put_word(bytes, i, 0xeaff'fffe);
  return bytes;
}

struct ZImageFile {
  std::size_t size = 0x1000;
  std::uint32_t start = 0;
  bool has_tags = true;
  std::uint32_t unpacked = 0x10'0000;
  std::uint32_t bss = 0x2000;
  std::uint32_t text_offset = 0x8000;
  std::uint32_t heap = 0x1'0000;
};

inline Bytes zimage_file(const ZImageFile& file) {
  Bytes bytes = raw_file(file.size);
  put_word(bytes, 0x24, 0x016f'2818);
  put_word(bytes, 0x28, file.start);
  put_word(bytes, 0x2c, file.start + static_cast<std::uint32_t>(file.size));
  put_word(bytes, 0x30, 0x0403'0201);
  if (!file.has_tags) return bytes;
  put_word(bytes, 0x34, 0x4545'4545);
  put_word(bytes, 0x38, 0x80);
  const std::uint32_t size_at = static_cast<std::uint32_t>(file.size) - 5;  // unaligned, as in real ones
  const std::array<std::uint32_t, 6> tags = {6, 0x5a53'4c4b, size_at, file.bss, file.text_offset, file.heap};
  for (std::size_t i = 0; i < tags.size(); ++i) put_word(bytes, 0x80 + (4 * i), tags[i]);
  put_word(bytes, size_at, file.unpacked);
  return bytes;
}

struct ElfPart {
  std::uint32_t virtual_address;
  std::uint32_t physical_address;
  std::uint32_t file_size;
  std::uint32_t memory_size;
};

// Its parts follow the headers in the file, in order.
inline Bytes elf_file(std::uint32_t entry, const std::vector<ElfPart>& parts) {
  Bytes bytes(52 + (32 * parts.size()));
  put_word(bytes, 0, 0x464c'457f);
  put_word(bytes, 4, 0x0001'0101);  // 32 bits, little-endian, version 1
  put_word(bytes, 16, 0x0028'0002);
  put_word(bytes, 20, 1);
  put_word(bytes, 24, entry);
  put_word(bytes, 28, 52);
  put_word(bytes, 40, 0x0020'0034);
  put_word(bytes, 44, static_cast<std::uint32_t>(parts.size()));
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t header = 52 + (32 * i);
    const ElfPart& part = parts[i];
    put_word(bytes, header, 1);
    put_word(bytes, header + 4, static_cast<std::uint32_t>(bytes.size()));
    put_word(bytes, header + 8, part.virtual_address);
    put_word(bytes, header + 12, part.physical_address);
    put_word(bytes, header + 16, part.file_size);
    put_word(bytes, header + 20, part.memory_size);
    bytes.resize(bytes.size() + part.file_size, std::byte{0x11});
  }
  return bytes;
}

inline constexpr std::uint64_t kMiB = 1U << 20;

// A guest as the reader would give it, whose kernel is `file`.
inline GuestPlan plan_of(FakeRam& ram, Bytes file, std::uint64_t memory = 128 * kMiB) {
  GuestPlan plan;
  plan.name = FixedString<31>("g");
  plan.path = DtPath("/hypervisor/g");
  plan.memory = memory;
  plan.kernel.is_given = true;
  plan.kernel.is_loaded = true;
  plan.kernel.path = DtPath("/hypervisor/g/kernel");
  plan.kernel.file = FixedString<95>("image");
  plan.kernel.range = ram.load(PhysAddr(0x5000'0000), std::move(file));
  return plan;
}

}  // namespace cadastre
