#include "hyp/core/power.hh"

#include "arch/armv7/barrier.hh"
#include "hyp/core/console.hh"
#include "platform/psci.hh"

namespace cadastre {
namespace {
HostPsci firmware;
}

void set_firmware(const HostPsci& found) {
  firmware = found;
}

void power_off() {
  // Without the console's lock: another CPU may have been stopped with it.
  if (firmware.conduit != PsciConduit::kNone && firmware.system_off != 0) {
    console.write_line_unlocked("machine: off");
    psci_call(firmware.conduit, firmware.system_off);
  }
  console.write_line_unlocked("machine: stays on: its firmware does not switch it off");
  for (;;) arch::wfi();
}

}  // namespace cadastre
