// The linked image, from the symbols of cadastre.ld: each pair of neighbours is a page boundary.
#pragma once

#include <cstddef>

extern "C" {
extern const std::byte __image_start[];       // NOLINT(bugprone-reserved-identifier)
extern const std::byte __text_end[];          // NOLINT(bugprone-reserved-identifier)
extern const std::byte __rodata_end[];        // NOLINT(bugprone-reserved-identifier)
extern const std::byte __image_end[];         // NOLINT(bugprone-reserved-identifier)
extern void (*const __init_array_start[])();  // NOLINT(bugprone-reserved-identifier)
extern void (*const __init_array_end[])();    // NOLINT(bugprone-reserved-identifier)
extern const std::byte hyp_vectors[];
}
