// The devices that the hypervisor drives: UART, interrupt controller, timer.
#include <algorithm>

#include "platform/dtb/host_parts.hh"

namespace cadastre {
namespace {

constexpr std::array<std::string_view, 3> kGics = {"arm,cortex-a15-gic", "arm,cortex-a7-gic", "arm,gic-400"};
constexpr std::array<std::string_view, 2> kTimers = {"arm,armv7-timer", "arm,armv8-timer"};
constexpr std::string_view kPl011 = "arm,pl011";

// [GIC binding] (0 = SPI or 1 = PPI, number, flags).
constexpr std::size_t kInterruptCells = 3;
constexpr std::uint32_t kFirstPpi = 16;
constexpr std::uint32_t kFirstSpi = 32;
constexpr std::uint32_t kPpis = 16;
constexpr std::uint32_t kSpis = 1020 - kFirstSpi;

// The GIC's id of interrupt `i` of `node`; nothing when there is no such interrupt.
std::optional<std::uint32_t> interrupt_of(const DtNode& node, std::size_t i) {
  const auto interrupts = node.property("interrupts");
  if (!interrupts || interrupts->size() % (kInterruptCells * DtProperty::kCellSize) != 0 ||
      interrupts->cells() < (i + 1) * kInterruptCells) {
    return std::nullopt;
  }
  const std::uint32_t type = interrupts->cell(i * kInterruptCells);
  const std::uint32_t number = interrupts->cell((i * kInterruptCells) + 1);
  if (type == 0 && number < kSpis) return kFirstSpi + number;
  if (type == 1 && number < kPpis) return kFirstPpi + number;
  return std::nullopt;
}

// `range` of a device on `bus`, as the CPU reaches it.
std::optional<PhysRange> cpu_range(const DtNode& bus, DtRange range) {
  const auto base = translate(bus, range.base, DtRangesKind::kCpu);
  if (!base || range.size == 0 || *base >= kPhysicalEnd || range.size > kPhysicalEnd - *base ||
      *base % kPageSize != 0) {
    return std::nullopt;
  }
  return PhysRange{.base = PhysAddr(*base), .size = range.size};
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
    if (!range) {
      refuse(refusals, node, "{:x} bytes at {:x} are not pages that the CPU reaches: correct reg or ranges",
             (*reg)[i].size, (*reg)[i].base);
      return false;
    }
    *parts[i] = *range;
  }
  return true;
}

// The node that /chosen/stdout-path names, options after ':' left out [DT 3.6].
std::optional<DtNode> stdout_node(const DeviceTree& tree, const std::optional<DtNode>& chosen) {
  auto path = chosen ? chosen->property("stdout-path") : std::nullopt;
  if (chosen && !path) path = chosen->property("linux,stdout-path");
  const auto text = path ? path->string() : std::nullopt;
  return text ? tree.find(text->substr(0, text->find(':'))) : std::nullopt;
}

}  // namespace

bool is_gic(const DtProperty& compatible) {
  return std::ranges::any_of(kGics, [&](std::string_view name) { return compatible.lists(name); });
}

bool is_timer(const DtProperty& compatible) {
  return std::ranges::any_of(kTimers, [&](std::string_view name) { return compatible.lists(name); });
}

void read_uart(const DeviceTree& tree, const HostNodes& nodes, HostDescription& host, Refusals& refusals) {
  const auto node = stdout_node(tree, nodes.chosen);
  if (!node) {
    refusals.add("/chosen: stdout-path names no node: give the console's path");
    return;
  }
  if (!node->is_compatible(kPl011)) {
    refuse(refusals, *node, "the console is not compatible with {}: name a PL011 in /chosen/stdout-path", kPl011);
    return;
  }
  PhysRange range;
  const std::array parts = {&range};
  if (read_device(*node, parts, refusals)) {
    host.uart = {.base = range.base, .size = range.size, .interrupt = interrupt_of(*node, 0).value_or(0)};
  }
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
  const auto maintenance = interrupt_of(*node, 0);
  if (!maintenance) {
    refuse(refusals, *node, "no maintenance interrupt: start QEMU with -M virt,virtualization=on");
    return;
  }
  host.gic.maintenance_interrupt = *maintenance;
}

void read_timer(const HostNodes& nodes, HostDescription& host, Refusals& refusals) {
  const auto& node = nodes.timer;
  if (!node) {
    refusals.add("/timer: no generic timer (arm,armv7-timer): the machine must have one");
    return;
  }
  std::array<std::uint32_t*, 4> ids = {&host.timer.secure_physical, &host.timer.physical, &host.timer.virtual_timer,
                                       &host.timer.hypervisor};
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto interrupt = interrupt_of(*node, i);
    if (!interrupt || *interrupt >= kFirstSpi) {
      refuse(refusals, *node, "interrupts must be four PPIs (secure, physical, virtual, hypervisor): correct it");
      return;
    }
    *ids[i] = *interrupt;
  }
}

std::optional<HostUart> find_stdout_uart(const DeviceTree& tree) {
  const auto node = stdout_node(tree, tree.find("/chosen"));
  if (!node || !node->is_compatible(kPl011)) return std::nullopt;
  const auto bus = node->parent();
  const auto cells = bus ? cells_of(*bus) : std::nullopt;
  const auto reg = cells ? DtReg::of(*node, *cells) : std::nullopt;
  const auto range = reg ? cpu_range(*bus, (*reg)[0]) : std::nullopt;
  if (!range) return std::nullopt;
  return HostUart{.base = range->base, .size = range->size};
}

std::optional<HostUart> find_stdout_uart(std::span<const std::byte> blob) {
  const auto tree = DeviceTree::open_unchecked(blob);
  return tree ? find_stdout_uart(*tree) : std::nullopt;
}

}  // namespace cadastre
