// The device tree that a guest is given in r2: the subset of QEMU's `virt` machine that it has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "hyp/config/plan.hh"
#include "mm/base/error.hh"

namespace cadastre {

struct GuestDtb {
  std::uint64_t memory = 0;              // bytes from the RAM's base on
  unsigned cpus = 1;                     // vCPU n has affinity n in MPIDR
  std::string_view cpu_compatible = {};  // "arm,cortex-a15"
  std::string_view bootargs = {};        // /chosen; none when empty
  IpaRange initrd = {};                  // none when its size is 0
  std::uint32_t timer_frequency = 0;     // in Hz; 0: CNTFRQ says it
};

// Writes the tree into `room`, whose beginning is 8-byte aligned and which kGuestDtbRoom is enough for. Returns its size.
// kLimit when it does not fit, kInvalid when a text has a zero in it.
[[nodiscard]] Result<std::size_t> write_guest_dtb(std::span<std::byte> room, const GuestDtb& guest);

}  // namespace cadastre
