// The few mappings that C++ adds to the boot tables before the final ones exist: the DTB and the UART, in
// their fixmap slots.
#pragma once

#include <cstddef>

#include "mm/base/address.hh"

namespace cadastre::arch {

// Maps the two blocks from the one `dtb` lies in on; returns where its first byte is. 4 MiB at most can be
// read there.
const std::byte* map_boot_dtb(PhysAddr dtb);

// Maps the page of a device's registers at the UART's slot.
void* map_boot_uart(PhysAddr registers);

}  // namespace cadastre::arch
