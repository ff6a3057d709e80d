#include "hyp/config/xen_binding.hh"

#include <algorithm>
#include <array>

#include "hyp/config/binding.hh"
#include "hyp/devices/vgic.hh"

namespace cadastre {
namespace {

// What a domain may say that is read here, or that holds anyway: every guest has a PL011 (vpl011), tables as they are needed
// (xen,domain-p2m-mem-mb), and limits on grants are kept where there are none.
constexpr std::array<std::string_view, 13> kUnderstood = {"compatible",
                                                          "memory",
                                                          "cpus",
                                                          "#address-cells",
                                                          "#size-cells",
                                                          "vpl011",
                                                          "nr_spis",
                                                          "phandle",
                                                          "status",
                                                          "max_grant_version",
                                                          "max_grant_frames",
                                                          "max_maptrack_frames",
                                                          "xen,domain-p2m-mem-mb"};

struct Missing {
  std::string_view property;
  std::string_view reason;
};
constexpr std::array<Missing, 7> kMissing = {{
    {"xen,enhanced", "event channels, grants and xenstore are Xen's own: remove it"},
    {"xen,static-mem", "guests get whatever RAM is free: give memory alone"},
    {"direct-map", "guests' RAM is not where the host has it: remove it"},
    {"domain-cpupool", "the machine's CPUs are one pool: remove it"},
    {"llc-colors", "RAM is not chosen by cache color: remove it"},
    {"sve", "the CPU has no SVE: remove it"},
    {"passthrough", "guests drive no device of the host: remove it"},
}};

void refuse_missing(const DtNode& node, Refusals& refusals) {
  for (const std::string_view name : node.property_names()) {
    if (std::ranges::find(kUnderstood, name) != kUnderstood.end()) continue;
    const auto value = node.property(name);
    if (name == "xen,enhanced" && value && value->string() == "disabled") continue;
    const auto* missing = std::ranges::find(kMissing, name, &Missing::property);
    refuse(refusals, node, "{} is not here: {}", name,
           missing == kMissing.end() ? "Cadastre does not know it; remove it" : missing->reason);
  }
}

// Every guest has as many as the virtual GIC has.
void check_spis(const DtNode& node, Refusals& refusals) {
  constexpr std::uint32_t kSpis = Vgic::kInterrupts - 32;
  const auto count = node.property("nr_spis");
  if (!count || (count->size() == DtProperty::kCellSize && count->cell(0) <= kSpis)) return;
  refuse(refusals, node, "nr_spis must be a number of one cell, at most the {} SPIs of every guest: correct it", kSpis);
}

// In KiB, unlike the own binding's.
void read_memory_size(const DtNode& node, GuestPlan& guest, Refusals& refusals) {
  constexpr unsigned kKibShift = 10;
  const auto memory = node.property("memory");
  if (!memory || memory->size() != 2 * DtProperty::kCellSize || memory->number(0, 2) > UINT64_MAX >> kKibShift) {
    refuse(refusals, node, "memory must be there, KiB in two cells: write memory = <0 0x20000> for 128 MiB");
    return;
  }
  guest.memory = memory->number(0, 2) << kKibShift;
}

void read_module(const DtNode& node, DtCells cells, GuestModule& module, Refusals& refusals) {
  if (module.is_given) {
    refuse(refusals, node, "a second module of its kind, after {}: remove one", module.path.view());
    return;
  }
  module.is_given = true;
  module.path = node.path();
  const auto reg = DtReg::of(node, cells, refusals);
  if (!reg) return;
  module.range = {.base = PhysAddr((*reg)[0].base), .size = (*reg)[0].size};
  module.is_loaded = true;
}

void read_child(const DtNode& node, DtCells cells, GuestPlan& guest, Refusals& refusals) {
  if (node.is_compatible("multiboot,kernel")) {
    read_module(node, cells, guest.kernel, refusals);
    read_guest_bootargs(node, guest, refusals);
  } else if (node.is_compatible("multiboot,ramdisk")) {
    read_module(node, cells, guest.initrd, refusals);
  } else if (node.is_compatible("multiboot,device-tree")) {
    refuse(refusals, node, "a device tree of passed-through devices is not here: guests drive no device of the host");
  } else if (node.is_compatible("xen,domain-shared-memory-v1")) {
    refuse(refusals, node, "shared memory between guests is not here: remove it");
  } else {
    refuse(refusals, node, "neither multiboot,kernel nor multiboot,ramdisk: correct its compatible or remove it");
  }
}

void read_domain(const DtNode& node, Configuration& configuration, Refusals& refusals) {
  GuestPlan* guest = add_guest(node, configuration, refusals);
  if (guest == nullptr) return;
  refuse_missing(node, refusals);
  check_spis(node, refusals);
  read_memory_size(node, *guest, refusals);
  read_cpu_count(node, *guest, refusals);
  const auto cells = inherited_cells(node, refusals);
  if (!cells) return;
  for (const DtNode child : node.children()) read_child(child, *cells, *guest, refusals);
  if (!guest->kernel.is_given) refuse(refusals, node, "no multiboot,kernel module: give one with the kernel to start");
}

}  // namespace

void read_xen_binding(const DtNode& chosen, Configuration& configuration, Refusals& refusals) {
  for (const DtNode node : chosen.children()) {
    if (!node.is_enabled()) continue;
    if (node.is_compatible("xen,domain")) {
      read_domain(node, configuration, refusals);
    } else if (node.is_compatible("multiboot,kernel") || node.is_compatible("xen,linux-zimage")) {
      refuse(refusals, node,
             "a kernel for dom0 is not for here, no guest is privileged: put it into a xen,domain node");
    }
  }
}

}  // namespace cadastre
