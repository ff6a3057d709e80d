// 32-bit little-endian ARM executables in ELF [ELF 1.2; ELF for the Arm Architecture 5].
#pragma once

#include <optional>
#include <span>

#include "hyp/config/image.hh"

namespace cadastre {

// Whether a file that begins like this is an ELF file of any kind. At least four bytes.
[[nodiscard]] bool is_elf(std::span<const std::byte> header);

// What an ELF file loads, and where. Refused unless it is an executable that this CPU can run.
[[nodiscard]] std::optional<ElfImage> read_elf(const GuestModule& module, PhysReader& reader, Refusals& refusals);

}  // namespace cadastre
