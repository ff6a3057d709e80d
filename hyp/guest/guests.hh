// The guests of this machine, from their configuration to their end.
#pragma once

#include "hyp/config/plan.hh"
#include "platform/dtb/host.hh"

namespace cadastre {

class Vm;

struct GuestOptions {
  bool lines = false;          // each guest's output a line at a time, with its name
  unsigned reset_limit = ~0U;  // a guest that resets more often has failed
};

// Makes every guest of a plan that has been checked, and gives its first vCPU to a CPU. `configuration` and `host` outlive
// the guests. What fails is said, and counts as that guest's failure.
void start_guests(const Configuration& configuration, const HostDescription& host, unsigned host_cpus,
                  const GuestOptions& options);

// The last vCPU of a guest is off its CPU: reports how it ended, takes everything back, and starts it anew when that is what
// it asked for. After the last guest comes the audit, and the machine is switched off.
void finish_guest(Vm& vm);

}  // namespace cadastre
