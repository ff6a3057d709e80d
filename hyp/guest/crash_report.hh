// What a guest was doing when it came to a bad end, for whoever has to find out why.
#pragma once

namespace cadastre {

struct Vcpu;

// Says the vCPU's registers, how its pc is translated, and where it came from. It is not loaded on any CPU. Populates and
// changes nothing.
void report_vcpu(Vcpu& vcpu);

}  // namespace cadastre
