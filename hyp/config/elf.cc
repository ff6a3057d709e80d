#include "hyp/config/elf.hh"

#include <algorithm>
#include <array>
#include <bit>
#include <string_view>

namespace cadastre {
namespace {

// [ELF 1.2, figures 1-3 and 2-1]
struct FileHeader {
  std::array<std::uint8_t, 16> ident;
  std::uint16_t type;
  std::uint16_t machine;
  std::uint32_t version;
  std::uint32_t entry;
  std::uint32_t program_headers;  // offset in the file
  std::uint32_t section_headers;
  std::uint32_t flags;
  std::uint16_t header_size;
  std::uint16_t program_header_size;
  std::uint16_t program_header_count;
  std::uint16_t section_header_size;
  std::uint16_t section_header_count;
  std::uint16_t section_names;
};
static_assert(sizeof(FileHeader) == 52);

struct ProgramHeader {
  std::uint32_t type;
  std::uint32_t offset;
  std::uint32_t virtual_address;
  std::uint32_t physical_address;
  std::uint32_t file_size;
  std::uint32_t memory_size;
  std::uint32_t flags;
  std::uint32_t alignment;
};
static_assert(sizeof(ProgramHeader) == 32);
static_assert(std::endian::native == std::endian::little);

constexpr std::array<std::byte, 4> kMagic = {std::byte{0x7f}, std::byte{'E'}, std::byte{'L'}, std::byte{'F'}};
constexpr std::size_t kClass = 4;
constexpr std::size_t kData = 5;
constexpr std::uint8_t kClass32 = 1;
constexpr std::uint8_t kLittleEndian = 1;
constexpr std::uint16_t kExecutable = 2;
constexpr std::uint16_t kArm = 40;
constexpr std::uint32_t kLoad = 1;
constexpr std::uint16_t kMostProgramHeaders = 64;

template <class T>
T read_as(const GuestModule& module, PhysReader& reader, std::uint64_t offset) {
  std::array<std::byte, sizeof(T)> bytes{};
  reader.read(module.range.base + offset, bytes);
  return std::bit_cast<T>(bytes);
}

// Why this is not for this CPU; nothing when it is.
std::string_view objection(const FileHeader& header) {
  if (header.ident[kClass] != kClass32) return "is for a 64-bit machine";
  if (header.ident[kData] != kLittleEndian) return "is big-endian";
  if (header.machine != kArm) return "is for another machine than ARM";
  if (header.type != kExecutable) return "is not an executable (ET_EXEC)";
  if (header.program_header_size != sizeof(ProgramHeader)) return "has program headers of an unknown form";
  if (header.program_header_count == 0) return "has no program headers";
  if (header.program_header_count > kMostProgramHeaders) return "has more than 64 program headers";
  return {};
}

bool overlap(const ImageSegment& a, const ImageSegment& b) {
  return a.address < b.address + b.memory_size && b.address < a.address + a.memory_size;
}

bool add_segment(const GuestModule& module, const ProgramHeader& header, ElfImage& image, Refusals& refusals) {
  const ImageSegment segment{.offset = header.file_size == 0 ? 0 : header.offset,
                             .file_size = header.file_size,
                             .address = header.physical_address,
                             .memory_size = header.memory_size};
  if (segment.offset + segment.file_size > module.range.size) {
    refuse(refusals, module, "a truncated ELF file: its segment at {:x} ends beyond its {} bytes: give the whole file",
           segment.address, module.range.size);
    return false;
  }
  if (segment.file_size > segment.memory_size) {
    refuse(refusals, module, "an ELF segment at {:x} with more bytes in the file than in memory: link it again",
           segment.address);
    return false;
  }
  if (std::ranges::any_of(image.segments, [&](const ImageSegment& other) { return overlap(segment, other); })) {
    refuse(refusals, module, "an ELF segment at {:x} overlaps another: link it again", segment.address);
    return false;
  }
  if (!image.segments.push_back(segment)) {
    refuse(refusals, module, "an ELF file with more than {} segments: link it with fewer", image.segments.capacity());
    return false;
  }
  return true;
}

}  // namespace

bool is_elf(std::span<const std::byte> header) {
  return std::ranges::equal(header.first(kMagic.size()), kMagic);
}

std::optional<ElfImage> read_elf(const GuestModule& module, PhysReader& reader, Refusals& refusals) {
  const auto header = read_as<FileHeader>(module, reader, 0);  // a module is larger than that
  if (const auto reason = objection(header); !reason.empty()) {
    refuse(refusals, module, "an ELF file that {}: give a 32-bit little-endian ARM executable", reason);
    return std::nullopt;
  }
  if (std::uint64_t{header.program_headers} + (header.program_header_count * sizeof(ProgramHeader)) >
      module.range.size) {
    refuse(refusals, module, "a truncated ELF file: its program headers are missing: give the whole file");
    return std::nullopt;
  }

  ElfImage image;
  image.is_thumb = (header.entry & 1) != 0;  // [ELF for Arm 5.1.1]
  const std::uint32_t entry = header.entry & ~std::uint32_t{1};
  bool is_entry_loaded = false;
  for (std::uint32_t i = 0; i < header.program_header_count; ++i) {
    const auto program = read_as<ProgramHeader>(module, reader, header.program_headers + (i * sizeof(ProgramHeader)));
    if (program.type != kLoad || program.memory_size == 0) continue;
    if (!add_segment(module, program, image, refusals)) return std::nullopt;
    // The entry is a virtual address; the MMU is off.
    if (entry >= program.virtual_address && entry - program.virtual_address < program.memory_size) {
      image.entry = std::uint64_t{program.physical_address} + (entry - program.virtual_address);
      is_entry_loaded = true;
    }
  }
  if (!is_entry_loaded) {
    refuse(refusals, module, "an ELF file whose entry {:x} is in none of its segments: link it again", entry);
    return std::nullopt;
  }
  return image;
}

}  // namespace cadastre
