// The devices that the hypervisor drives besides the console: interrupt controller, timer.
#include <algorithm>

#include "platform/dtb/host_parts.hh"
#include "platform/dtb/interrupt_tree.hh"

namespace cadastre {
namespace {

constexpr std::array<std::string_view, 3> kGics = {"arm,cortex-a15-gic", "arm,cortex-a7-gic", "arm,gic-400"};
constexpr std::array<std::string_view, 2> kTimers = {"arm,armv7-timer", "arm,armv8-timer"};

constexpr std::uint32_t kFirstSpi = 32;

// The maintenance interrupt is the GIC's own: whatever the node's interrupt-parent, it is raised here.
std::optional<std::uint32_t> own_interrupt(const DtNode& gic) {
  constexpr std::size_t kCells = 3;  // [GIC binding]
  const auto interrupts = gic.property("interrupts");
  if (!interrupts || interrupts->cells() < kCells) return std::nullopt;
  return gic_id(interrupts->cell(0), interrupts->cell(1));
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
    refuse(refusals, node, "reg has {} entries of the {} that are needed: start QEMU with -M virt,virtualization=on",
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
    refusals.add("/intc: no GICv2 (arm,cortex-a15-gic, arm,gic-400): start QEMU with -M virt,gic-version=2");
    return;
  }
  const std::array parts = {&host.gic.distributor, &host.gic.cpu_interface, &host.gic.hypervisor,
                            &host.gic.virtual_cpu};
  if (!read_device(*node, parts, refusals)) return;
  const auto maintenance = own_interrupt(*node);
  if (!maintenance) {
    refuse(refusals, *node, "no maintenance interrupt: start QEMU with -M virt,virtualization=on");
    return;
  }
  host.gic.maintenance_interrupt = *maintenance;
}

void read_timer(const DeviceTree& tree, const HostNodes& nodes, HostDescription& host, Refusals& refusals) {
  const auto& node = nodes.timer;
  if (!node) {
    refusals.add("/timer: no generic timer (arm,armv7-timer): the machine must have one");
    return;
  }
  if (!nodes.gic) return;  // said already
  const InterruptTree interrupts(tree, *nodes.gic);
  std::array<std::uint32_t*, 4> ids = {&host.timer.secure_physical, &host.timer.physical, &host.timer.virtual_timer,
                                       &host.timer.hypervisor};
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto interrupt = interrupts.gic_interrupt(*node, i);
    if (!interrupt || *interrupt >= kFirstSpi) {
      refuse(refusals, *node, "interrupts must be four PPIs (secure, physical, virtual, hypervisor): correct it");
      return;
    }
    *ids[i] = *interrupt;
  }
}

}  // namespace cadastre
