// Reading guests from the device tree: the own binding, and what it shares with Xen's (xen_binding.hh).
#pragma once

#include "hyp/config/plan.hh"

namespace cadastre {

// Cadastre's own (dts/README.md). `hypervisor` is /hypervisor.
void read_own_binding(const DtNode& hypervisor, Configuration& configuration, Refusals& refusals);

// What both bindings need: a guest's name from its node, and a place for its plan. Null when it is refused.
[[nodiscard]] GuestPlan* add_guest(const DtNode& node, Configuration& configuration, Refusals& refusals);
void read_guest_bootargs(const DtNode& node, GuestPlan& guest, Refusals& refusals);
// A `cpus` of one cell, at least 1.
void read_cpu_count(const DtNode& node, GuestPlan& guest, Refusals& refusals);

}  // namespace cadastre
