// Addresses in a device tree: cell counts, `reg`, and the buses' `ranges`.
#include "platform/dtb/device_tree.hh"

namespace cadastre {
namespace {

// The count that a bus gives; nothing when the property is missing, misshapen or above `most`.
std::optional<unsigned> cell_count(const DtNode& bus, std::string_view name, unsigned most) {
  const auto property = bus.property(name);
  if (!property || property->size() != DtProperty::kCellSize || property->cell(0) > most) return std::nullopt;
  return property->cell(0);
}

// [DT 2.3.8] ranges: (address on the bus, address on the bus above, size)*.
std::optional<std::uint64_t> one_bus_up(const DtNode& bus, const DtNode& above, std::uint64_t address,
                                        DtRangesKind kind) {
  const auto ranges = bus.property(kind == DtRangesKind::kCpu ? "ranges" : "dma-ranges");
  // What a bus does not say is one to one for DMA, and unreachable for the CPU.
  if (!ranges) return kind == DtRangesKind::kDma ? std::optional(address) : std::nullopt;
  if (ranges->size() == 0) return address;

  const auto child = cell_count(bus, "#address-cells", 3);  // three on PCI: its flags, then the address
  const auto parent = cell_count(above, "#address-cells", 2);
  const auto size = cell_count(bus, "#size-cells", 2);
  if (!child || !parent || !size) return std::nullopt;
  const unsigned entry = *child + *parent + *size;
  for (std::size_t i = 0; entry != 0 && i + entry <= ranges->cells(); i += entry) {
    const std::uint64_t from = ranges->number(i, *child);
    const std::uint64_t length = ranges->number(i + *child + *parent, *size);
    if (address >= from && address - from < length) return ranges->number(i + *child, *parent) + (address - from);
  }
  return std::nullopt;
}

}  // namespace

std::optional<DtCells> cells_of(const DtNode& bus) {
  const auto address = cell_count(bus, "#address-cells", 2);
  const auto size = cell_count(bus, "#size-cells", 2);
  if (!address || !size || *address == 0 || *size == 0) return std::nullopt;
  return DtCells{.address = *address, .size = *size};
}

std::optional<DtCells> cells_of(const DtNode& bus, Refusals& refusals) {
  const auto cells = cells_of(bus);
  if (!cells) refuse(refusals, bus, "#address-cells and #size-cells must both be there and be 1 or 2: correct them");
  return cells;
}

std::optional<DtCells> inherited_cells(const DtNode& bus, Refusals& refusals) {
  const auto count = [&](std::string_view name) {
    std::optional<DtNode> node = bus;
    while (node && !node->has(name)) node = node->parent();
    return node ? cell_count(*node, name, 2) : std::nullopt;
  };
  const auto address = count("#address-cells");
  const auto size = count("#size-cells");
  if (address && size && *address != 0 && *size != 0) return DtCells{.address = *address, .size = *size};
  refuse(refusals, bus, "#address-cells and #size-cells must be 1 or 2, here or above: correct them");
  return std::nullopt;
}

std::optional<DtReg> DtReg::of(const DtNode& node, DtCells cells) {
  const auto property = node.property("reg");
  const std::size_t entry = (cells.address + cells.size) * DtProperty::kCellSize;
  if (!property || property->size() == 0 || property->size() % entry != 0) return std::nullopt;
  return DtReg(*property, cells);
}

std::optional<DtReg> DtReg::of(const DtNode& node, DtCells cells, Refusals& refusals) {
  const auto reg = of(node, cells);
  if (reg) return reg;
  const auto property = node.property("reg");
  const std::size_t entry = (cells.address + cells.size) * DtProperty::kCellSize;
  if (!property || property->size() == 0) {
    refuse(refusals, node, "no reg: give its address and size, {} bytes an entry", entry);
  } else {
    refuse(refusals, node, "reg has {} bytes, which is no multiple of {}: write {} + {} cells an entry",
           property->size(), entry, cells.address, cells.size);
  }
  return std::nullopt;
}

DtRange DtReg::operator[](std::size_t i) const {
  const std::size_t first = i * (cells_.address + cells_.size);
  return {.base = property_.number(first, cells_.address),
          .size = property_.number(first + cells_.address, cells_.size)};
}

std::optional<std::uint64_t> translate(const DtNode& bus, std::uint64_t address, DtRangesKind kind) {
  DtNode here = bus;
  for (auto above = here.parent(); above; above = here.parent()) {
    const auto up = one_bus_up(here, *above, address, kind);
    if (!up) return std::nullopt;
    address = *up;
    here = *above;
  }
  return address;
}

}  // namespace cadastre
