// The devices that the hypervisor drives besides the console: interrupt controller, timer.
#include <algorithm>

#include "platform/dtb/host_parts.hh"
#include "platform/dtb/interrupt_tree.hh"

namespace cadastre {
namespace {

constexpr std::array<std::string_view, 3> kGics = {"arm,cortex-a15-gic", "arm,cortex-a7-gic", "arm,gic-400"};
constexpr std::array<std::string_view, 2> kTimers = {"arm,armv7-timer", "arm,armv8-timer"};

constexpr std::uint32_t kFirstSpi = 32;
// The CPUs' own interrupts, where the tree does not list them [GIC-400 TRM 2.3.2, Cortex-A15 TRM 8.2.1].
constexpr std::uint32_t kMaintenancePpi = 25;
struct TimerInterrupt {
  std::string_view name;  // [timer binding] interrupt-names
  std::uint32_t HostTimer::* id;
  std::uint32_t ppi;
};
constexpr std::array<TimerInterrupt, 4> kTimerInterrupts = {{{"sec-phys", &HostTimer::secure_physical, 29},
                                                             {"phys", &HostTimer::physical, 30},
                                                             {"virt", &HostTimer::virtual_timer, 27},
                                                             {"hyp-phys", &HostTimer::hypervisor, 26}}};

constexpr std::uint64_t kGiccSize = 2 * kPageSize;  // GICC_DIR is in its second page [GICv2 table 4-2]

// The maintenance interrupt is the GIC's own: whatever the node's interrupt-parent, it is raised here.
std::optional<std::uint32_t> own_interrupt(const DtNode& gic) {
  constexpr std::size_t kCells = 3;  // [GIC binding]
  const auto extended = gic.property("interrupts-extended");
  const auto interrupts = extended ? extended : gic.property("interrupts");
  const std::size_t first = extended ? 1 : 0;
  if (!interrupts) return kMaintenancePpi;
  if (interrupts->cells() < first + kCells) return std::nullopt;
  return gic_id(interrupts->cell(first), interrupts->cell(first + 1));
}

// The first parts.size() entries of the node's `reg`. False when it was refused.
bool read_device(const DtNode& node, std::span<PhysRange* const> parts, Refusals& refusals) {
  const auto bus = node.parent();
  if (!bus) {
    refuse(refusals, node, "the root cannot be a device: correct its compatible");
    return false;
  }
  const auto cells = cells_of(*bus, refusals);
  const auto reg = cells ? DtReg::of(node, *cells, refusals) : std::nullopt;
  if (!reg) return false;
  if (reg->count() < parts.size()) {
    refuse(
        refusals, node,
        "reg has {} of the {} parts of a GICv2 with virtualization (GICD, GICC, GICH, GICV): add them; QEMU has them "
        "with virtualization=on",
        reg->count(), parts.size());
    return false;
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto range = cpu_range(*bus, (*reg)[i]);
    if (!range || !range->base.is_aligned(kPageSize)) {
      refuse(refusals, node, "{:x} bytes at {:x} are not pages that the CPU reaches: correct reg or ranges",
             (*reg)[i].size, (*reg)[i].base);
      return false;
    }
    *parts[i] = *range;
  }
  return true;
}

}  // namespace

bool is_gic(const DtProperty& compatible) {
  return std::ranges::any_of(kGics, [&](std::string_view name) { return compatible.lists(name); });
}

bool is_timer(const DtProperty& compatible) {
  return std::ranges::any_of(kTimers, [&](std::string_view name) { return compatible.lists(name); });
}

std::optional<PhysRange> cpu_range(const DtNode& bus, DtRange range) {
  const auto base = translate(bus, range.base, DtRangesKind::kCpu);
  if (!base || range.size == 0 || *base >= kPhysicalEnd || range.size > kPhysicalEnd - *base) return std::nullopt;
  return PhysRange{.base = PhysAddr(*base), .size = range.size};
}

void read_gic(const HostNodes& nodes, HostDescription& host, Refusals& refusals) {
  const auto& node = nodes.gic;
  if (!node) {
    refusals.add(
        "/intc: no GICv2 (arm,gic-400, arm,cortex-a15-gic, arm,cortex-a7-gic): the machine must have one; QEMU's virt "
        "has with gic-version=2");
    return;
  }
  const std::array parts = {&host.gic.distributor, &host.gic.cpu_interface, &host.gic.hypervisor,
                            &host.gic.virtual_cpu};
  if (!read_device(*node, parts, refusals)) return;
  const auto maintenance = own_interrupt(*node);
  if (!maintenance) {
    refuse(refusals, *node, "interrupts must begin with the maintenance interrupt, a PPI or SPI: correct it");
    return;
  }
  host.gic.maintenance_interrupt = *maintenance;
  host.gic.cpu_interface_is_short = host.gic.cpu_interface.size < kGiccSize;
  host.gic.cpu_interface.size = std::max(host.gic.cpu_interface.size, kGiccSize);
}

void read_timer(const DeviceTree& tree, const HostNodes& nodes, HostDescription& host, Refusals& refusals) {
  const auto& node = nodes.timer;
  if (!node) {
    refusals.add("/timer: no generic timer (arm,armv7-timer, arm,armv8-timer): the machine must have one");
    return;
  }
  if (const auto frequency = node->property("clock-frequency")) {
    if (frequency->size() != DtProperty::kCellSize || frequency->cell(0) == 0) {
      refuse(refusals, *node, "clock-frequency must be one cell, not 0: correct it");
      return;
    }
    host.timer.frequency = frequency->cell(0);
  }
  if (!nodes.gic) return;  // said already
  const InterruptTree interrupts(tree, *nodes.gic);
  const std::size_t count = interrupts.count(*node);
  const auto names = node->property("interrupt-names");
  for (std::size_t i = 0; i < kTimerInterrupts.size(); ++i) {
    const auto& [name, id, ppi] = kTimerInterrupts[i];
    const std::size_t at = names ? names->index_of(name).value_or(count) : i;
    const bool is_left_out = at >= count && count != 0;
    const auto interrupt = is_left_out ? std::optional(ppi) : interrupts.gic_interrupt(*node, at);
    if (!interrupt || *interrupt >= kFirstSpi) {
      refuse(refusals, *node, "interrupts must be PPIs of the GIC (secure, physical, virtual, hypervisor): correct it");
      return;
    }
    host.timer.*id = *interrupt;
  }
}

}  // namespace cadastre
