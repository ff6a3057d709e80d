#include "hyp/core/power.hh"

#include "arch/armv7/barrier.hh"
#include "hyp/core/console.hh"

namespace cadastre {
namespace {
PsciConduit conduit = PsciConduit::kSmc;
}

void set_psci_conduit(PsciConduit which) {
  conduit = which;
}
PsciConduit psci_conduit() {
  return conduit;
}

void power_off() {
  // Without its lock: another CPU may have been stopped with it.
  console.write_line_unlocked("machine: off");
  psci_call(conduit, psci::kSystemOff);
  for (;;) arch::wfi();  // firmware that does not know SYSTEM_OFF
}

}  // namespace cadastre
