#include "platform/dtb/interrupt_tree.hh"

#include <algorithm>

namespace cadastre {
namespace {

constexpr std::uint32_t kFirstPpi = 16;
constexpr std::uint32_t kFirstSpi = 32;
constexpr std::uint32_t kPpis = 16;
constexpr std::uint32_t kSpis = 1020 - kFirstSpi;
constexpr std::size_t kGicCells = 3;

// A tree whose controllers lead to each other in a circle ends here.
constexpr unsigned kMostHops = 8;

std::optional<std::uint32_t> one_cell(const DtNode& node, std::string_view name) {
  const auto property = node.property(name);
  if (!property || property->size() != DtProperty::kCellSize) return std::nullopt;
  return property->cell(0);
}

std::optional<std::uint32_t> phandle_of(const DtNode& node) {
  const auto phandle = one_cell(node, "phandle");
  return phandle ? phandle : one_cell(node, "linux,phandle");
}

// Cell `i` of the device's address, which a map may ask for; 0 where it has none.
std::uint32_t address_cell(const DtNode& device, std::size_t i) {
  const auto reg = device.property("reg");
  return reg && i < reg->cells() ? reg->cell(i) : 0;
}

}  // namespace

std::optional<std::uint32_t> gic_id(std::uint32_t kind, std::uint32_t number) {
  if (kind == 0 && number < kSpis) return kFirstSpi + number;
  if (kind == 1 && number < kPpis) return kFirstPpi + number;
  return std::nullopt;
}

InterruptTree::InterruptTree(const DeviceTree& tree, const DtNode& gic)
    : tree_(tree), gic_(gic), gic_phandle_(phandle_of(gic)) {}

std::optional<DtNode> InterruptTree::by_phandle(std::uint32_t phandle) const {
  if (phandle == gic_phandle_) return gic_;
  for (std::optional<DtNode> node = tree_.root(); node; node = node->next()) {
    if (phandle_of(*node) == phandle) return node;
  }
  return std::nullopt;
}

// [DT 2.4.1] interrupt-parent, or else the parent, up to somebody who understands interrupts.
std::optional<DtNode> InterruptTree::controller_of(const DtNode& node) const {
  std::optional<DtNode> here = node;
  for (std::size_t hop = 0; here && hop < kMostHops + DtNode::kMaxDepth; ++hop) {
    const auto parent = one_cell(*here, "interrupt-parent");
    here = parent ? by_phandle(*parent) : here->parent();
    if (here && here->has("#interrupt-cells")) return here;
  }
  return std::nullopt;
}

std::optional<InterruptTree::Specifier> InterruptTree::extended_specifier(const DtProperty& list, std::size_t i) const {
  std::size_t at = 0;
  for (std::size_t entry = 0; at < list.cells(); ++entry) {
    const auto controller = by_phandle(list.cell(at++));
    const auto count = controller ? one_cell(*controller, "#interrupt-cells") : std::nullopt;
    if (!count || *count > kMaxCells || at + *count > list.cells()) return std::nullopt;
    if (entry < i) {
      at += *count;
      continue;
    }
    Specifier found{.controller = *controller, .cells = {}};
    for (std::size_t c = 0; c < *count; ++c) CHECK(found.cells.push_back(list.cell(at + c)));
    return found;
  }
  return std::nullopt;
}

std::optional<InterruptTree::Specifier> InterruptTree::specifier(const DtNode& node, std::size_t i) const {
  // [DT 2.4.1.2] When both are there, this one counts.
  if (const auto extended = node.property("interrupts-extended")) return extended_specifier(*extended, i);
  const auto interrupts = node.property("interrupts");
  const auto controller = interrupts ? controller_of(node) : std::nullopt;
  const auto count = controller ? one_cell(*controller, "#interrupt-cells") : std::nullopt;
  if (!count || *count == 0 || *count > kMaxCells || interrupts->cells() % *count != 0 ||
      interrupts->size() % DtProperty::kCellSize != 0 || (i + 1) * *count > interrupts->cells()) {
    return std::nullopt;
  }
  Specifier found{.controller = *controller, .cells = {}};
  for (std::size_t c = 0; c < *count; ++c) CHECK(found.cells.push_back(interrupts->cell((i * *count) + c)));
  return found;
}

// [DT 2.4.3] interrupt-map: (address on the bus, specifier there, controller, address there, specifier there)*, of which
// the mask says what is compared.
std::optional<InterruptTree::Specifier> InterruptTree::through_map(const DtNode& device, const Specifier& from) const {
  const auto map = from.controller.property("interrupt-map");
  const auto mask = from.controller.property("interrupt-map-mask");
  const std::size_t address_cells = one_cell(from.controller, "#address-cells").value_or(2);
  const std::size_t key = address_cells + from.cells.size();
  if (!map || address_cells > kMaxCells) return std::nullopt;
  for (std::size_t at = 0; at + key < map->cells();) {
    bool matches = true;
    for (std::size_t c = 0; c < key; ++c) {
      const std::uint32_t wanted = c < address_cells ? address_cell(device, c) : from.cells[c - address_cells];
      const std::uint32_t compared = mask && c < mask->cells() ? mask->cell(c) : UINT32_MAX;
      matches = matches && ((wanted ^ map->cell(at + c)) & compared) == 0;
    }
    const auto above = by_phandle(map->cell(at + key));
    const auto count = above ? one_cell(*above, "#interrupt-cells") : std::nullopt;
    if (!count || *count > kMaxCells) return std::nullopt;
    const std::uint64_t skipped = one_cell(*above, "#address-cells").value_or(0);
    if (skipped > kMaxCells || at + key + 1 + skipped + *count > map->cells()) return std::nullopt;
    at += key + 1 + static_cast<std::size_t>(skipped);
    if (matches) {
      Specifier found{.controller = *above, .cells = {}};
      for (std::size_t c = 0; c < *count; ++c) CHECK(found.cells.push_back(map->cell(at + c)));
      return found;
    }
    at += *count;
  }
  return std::nullopt;
}

std::size_t InterruptTree::count(const DtNode& node) const {
  std::size_t count = 0;
  while (specifier(node, count)) ++count;
  return count;
}

std::optional<std::uint32_t> InterruptTree::gic_interrupt(const DtNode& node, std::size_t i) const {
  auto here = specifier(node, i);
  for (unsigned hop = 0; here && hop < kMostHops; ++hop) {
    if (here->controller == gic_) {
      return here->cells.size() == kGicCells ? gic_id(here->cells[0], here->cells[1]) : std::nullopt;
    }
    here = through_map(node, *here);
  }
  return std::nullopt;
}

}  // namespace cadastre
