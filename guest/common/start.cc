#include <libfdt.h>

#include <bit>
#include <cstdint>

#include "guest/common/guest.hh"
#include "guest/common/machine.hh"
#include "guest/common/memory.hh"
#include "guest/common/print.hh"

namespace cadastre::guest {
namespace {

void start(std::uint32_t dtb) {
  // Aligned reads only, before the MMU is on: libfdt's may not be.
  const volatile std::uint32_t* header = words_at(dtb);
  if ((dtb & 3U) != 0 || std::byteswap(static_cast<std::uint32_t>(header[0])) != FDT_MAGIC) {
    fail("r2 does not point to a device tree but is ", Hex{dtb});
  }
  machine.dtb_start = dtb;
  machine.dtb_end = dtb + std::byteswap(static_cast<std::uint32_t>(header[1]));
  start_mmu(machine.dtb_start, machine.dtb_end - machine.dtb_start);

  if (const char* problem = read_machine(reinterpret_cast<const void*>(dtb)); problem != nullptr) fail(problem);
  map_section(machine.distributor, Kind::kDevice);
  map_section(machine.cpu_interface, Kind::kDevice);
  map_ram(machine.ram_base, ram_end());
  run_guest();
}

}  // namespace
}  // namespace cadastre::guest

extern "C" void guest_main(std::uint32_t dtb) {
  cadastre::guest::start(dtb);
}
