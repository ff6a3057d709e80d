// The machine's console: which UART it is, how its registers lie, which interrupt says that somebody types.
#include <algorithm>

#include "platform/dtb/host_parts.hh"
#include "platform/dtb/interrupt_tree.hh"

namespace cadastre {
namespace {

// The node that /chosen/stdout-path names, options after ':' left out [DT 3.6].
std::optional<DtNode> stdout_node(const DeviceTree& tree, const std::optional<DtNode>& chosen) {
  auto path = chosen ? chosen->property("stdout-path") : std::nullopt;
  if (chosen && !path) path = chosen->property("linux,stdout-path");
  const auto text = path ? path->string() : std::nullopt;
  return text ? tree.find(text->substr(0, text->find(':'))) : std::nullopt;
}

const UartDriver* driver_of(const DtNode& node) {
  const auto compatible = node.property("compatible");
  if (!compatible) return nullptr;
  const auto drives = [&](const UartDriver* driver) {
    return std::ranges::any_of(driver->compatibles, [&](std::string_view name) { return compatible->lists(name); });
  };
  const auto drivers = uart_drivers();
  const auto found = std::ranges::find_if(drivers, drives);
  return found == drivers.end() ? nullptr : *found;
}

// A property of one cell; nothing when it has another shape.
std::optional<std::uint32_t> cell_or(const DtNode& node, std::string_view name, std::uint32_t otherwise) {
  const auto property = node.property(name);
  if (!property) return otherwise;
  return property->size() == DtProperty::kCellSize ? std::optional(property->cell(0)) : std::nullopt;
}

// [serial binding] reg-shift, reg-io-width.
std::optional<UartLayout> layout_of(const DtNode& node, const UartDriver& driver) {
  constexpr std::uint32_t kMostShift = 4;
  const auto shift = cell_or(node, "reg-shift", driver.layout.shift);
  const auto width = cell_or(node, "reg-io-width", driver.layout.width);
  if (!shift || *shift > kMostShift || !width || (*width != 1 && *width != 2 && *width != 4)) return std::nullopt;
  return UartLayout{.shift = static_cast<std::uint8_t>(*shift), .width = static_cast<std::uint8_t>(*width)};
}

std::optional<HostUart> uart_of(const DtNode& node) {
  const UartDriver* const driver = driver_of(node);
  const auto bus = driver != nullptr && node.is_reachable() ? node.parent() : std::nullopt;
  const auto cells = bus ? cells_of(*bus) : std::nullopt;
  const auto reg = cells ? DtReg::of(node, *cells) : std::nullopt;
  const auto range = reg ? cpu_range(*bus, (*reg)[0]) : std::nullopt;
  const auto layout = range ? layout_of(node, *driver) : std::nullopt;
  const auto offset = layout ? cell_or(node, "reg-offset", 0) : std::nullopt;
  if (!offset || *offset >= kPageSize) return std::nullopt;
  const PhysAddr base = range->base + *offset;
  // One page is mapped for it, before there is an allocator.
  const std::uint64_t used = (std::uint64_t{driver->register_count - 1} << layout->shift) + layout->width;
  if (!base.is_aligned(layout->width) || base.offset_in(kPageSize) + used > kPageSize) return std::nullopt;
  return HostUart{.driver = driver, .base = base, .layout = *layout, .path = node.path()};
}

struct Console {
  DtNode node;
  HostUart uart;
};

std::optional<Console> usable(const std::optional<DtNode>& node) {
  auto uart = node ? uart_of(*node) : std::nullopt;
  return uart ? std::optional(Console{.node = *node, .uart = *uart}) : std::nullopt;
}

std::optional<Console> find(const DeviceTree& tree, const std::optional<DtNode>& chosen) {
  if (auto console = usable(stdout_node(tree, chosen))) return console;
  if (auto console = usable(tree.find("serial0"))) return console;
  for (std::optional<DtNode> node = tree.root(); node; node = node->next()) {
    if (driver_of(*node) == nullptr) continue;
    if (auto console = usable(node)) return console;
  }
  return std::nullopt;
}

}  // namespace

void read_console(const DeviceTree& tree, const HostNodes& nodes, HostDescription& host) {
  const auto console = find(tree, nodes.chosen);
  if (!console) return;
  host.uart = console->uart;
  if (nodes.gic) host.uart.interrupt = InterruptTree(tree, *nodes.gic).gic_interrupt(console->node, 0).value_or(0);
}

std::optional<HostUart> find_console(const DeviceTree& tree) {
  const auto console = find(tree, tree.find("/chosen"));
  return console ? std::optional(console->uart) : std::nullopt;
}

std::optional<HostUart> find_console(std::span<const std::byte> blob) {
  const auto tree = DeviceTree::open_unchecked(blob);
  return tree ? find_console(*tree) : std::nullopt;
}

}  // namespace cadastre
