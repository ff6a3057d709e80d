// Instructions that the compiler has no words for: accesses.S, registers.S.
#pragma once

#include <cstdint>

extern "C" {
void arm_accesses(std::uint32_t registers, const std::uint32_t* in, std::uint32_t* out);
void thumb_accesses(std::uint32_t registers, const std::uint32_t* in, std::uint32_t* out);
std::uint32_t load_past_end(std::uint32_t address);
std::uint32_t read_hcr();
std::uint32_t read_unallocated();
}
