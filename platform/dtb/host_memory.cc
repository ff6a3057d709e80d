// RAM and what is reserved in it.
#include <algorithm>

#include "platform/dtb/host_parts.hh"

namespace cadastre {
namespace {

// Not empty, not wrapping, within LPAE's reach.
bool is_physical(DtRange range) {
  return range.size != 0 && range.base < kPhysicalEnd && range.size <= kPhysicalEnd - range.base;
}

bool overlap(const MemoryRegion& a, const MemoryRegion& b) {
  return a.base < b.end() && b.base < a.end();
}

void add_region(const DtNode& node, const MemoryRegion& region, HostDescription& host, Refusals& refusals) {
  for (const MemoryRegion& other : host.memory) {
    if (!overlap(region, other)) continue;
    refuse(refusals, node, "{} to {} overlaps the RAM at {} to {}: correct reg", region.base, region.end(), other.base,
           other.end());
    return;
  }
  if (!host.memory.push_back(region)) {
    refuse(refusals, node, "more than {} ranges of RAM: join neighbours", host.memory.capacity());
  }
}

// [reserved-memory binding] A child without `reg` says how much, how aligned and where it may be.
void read_unplaced(const DtNode& node, DtCells cells, ReservedMemory& entry, Refusals& refusals) {
  const auto size = node.property("size");
  if (!size || size->cells() != cells.size || size->number(0, cells.size) == 0) {
    refuse(refusals, node, "neither reg nor a size of {} cells: give one of them", cells.size);
    return;
  }
  entry.size = size->number(0, cells.size);
  if (const auto alignment = node.property("alignment")) {
    const auto value = alignment->number();
    if (!value || (*value & (*value - 1)) != 0) {
      refuse(refusals, node, "alignment must be a power of two in {} cells: correct it", cells.size);
      return;
    }
    entry.alignment = *value;
  }
  const auto ranges = node.property("alloc-ranges");
  if (!ranges) return;
  const std::size_t step = cells.address + cells.size;
  if (ranges->size() % (step * DtProperty::kCellSize) != 0) {
    refuse(refusals, node, "alloc-ranges must be entries of {} + {} cells: correct it", cells.address, cells.size);
    return;
  }
  for (std::size_t i = 0; i < ranges->cells(); i += step) {
    const DtRange range{.base = ranges->number(i, cells.address),
                        .size = ranges->number(i + cells.address, cells.size)};
    if (!is_physical(range)) {
      refuse(refusals, node, "alloc-ranges: {:x} bytes at {:x} are no range of RAM: correct it", range.size,
             range.base);
    } else if (!entry.alloc_ranges.push_back({.base = PhysAddr(range.base), .size = range.size})) {
      refuse(refusals, node, "more than {} alloc-ranges: join them", entry.alloc_ranges.capacity());
      return;
    }
  }
}

void add_reserved(const DtNode& node, const ReservedMemory& entry, HostDescription& host, Refusals& refusals) {
  if (!host.reserved_memory.push_back(entry)) {
    refuse(refusals, node, "more than {} reserved ranges: join neighbours", host.reserved_memory.capacity());
  }
}

void read_reserved_child(const DtNode& node, DtCells cells, HostDescription& host, Refusals& refusals) {
  ReservedMemory entry;
  entry.path = node.path();
  entry.no_map = node.has("no-map");
  entry.reusable = node.has("reusable");
  entry.is_shared_dma_pool = node.is_compatible("shared-dma-pool");
  entry.is_cma_default = node.has("linux,cma-default");
  if (entry.no_map && entry.reusable) {
    refuse(refusals, node, "no-map and reusable exclude each other: remove one");
    return;
  }
  if (!node.has("reg")) {
    read_unplaced(node, cells, entry, refusals);
    add_reserved(node, entry, host, refusals);
    return;
  }
  const auto reg = DtReg::of(node, cells, refusals);
  if (!reg) return;
  entry.is_placed = true;
  for (std::size_t i = 0; i < reg->count(); ++i) {
    const DtRange range = (*reg)[i];
    if (!is_physical(range)) {
      refuse(refusals, node, "{:x} bytes at {:x} are no range within 40 bits of address: correct reg", range.size,
             range.base);
      continue;
    }
    entry.base = PhysAddr(range.base);
    entry.size = range.size;
    add_reserved(node, entry, host, refusals);
  }
}

// One past the highest CPU address in a bus's dma-ranges; nothing when it says nothing, or none of them has RAM: its masters
// have memory of their own.
std::optional<std::uint64_t> dma_end(const DtNode& bus, const DtProperty& ranges, const HostDescription& host) {
  const auto above = bus.parent();
  const auto child = bus.property("#address-cells");
  const auto size = bus.property("#size-cells");
  const auto parent = above ? above->property("#address-cells") : std::nullopt;
  if (!child || !size || !parent || child->cells() != 1 || size->cells() != 1 || parent->cells() != 1 ||
      child->cell(0) > 3 || size->cell(0) > 2 || parent->cell(0) > 2) {
    return std::nullopt;
  }
  const std::size_t entry = std::size_t{child->cell(0)} + parent->cell(0) + size->cell(0);
  std::uint64_t end = 0;
  for (std::size_t i = 0; entry != 0 && i + entry <= ranges.cells(); i += entry) {
    const std::uint64_t start = ranges.number(i + child->cell(0), parent->cell(0));
    const std::uint64_t length = ranges.number(i + child->cell(0) + parent->cell(0), size->cell(0));
    const auto cpu = translate(*above, start, DtRangesKind::kDma);
    if (!cpu || length == 0) continue;
    const std::uint64_t past = *cpu + std::min(length, UINT64_MAX - *cpu);
    const auto is_reached = [&](const MemoryRegion& ram) {
      return ram.base.value() < past && *cpu < ram.end().value();
    };
    if (std::ranges::any_of(host.memory, is_reached)) end = std::max(end, past);
  }
  return end == 0 ? std::nullopt : std::optional(end);
}

}  // namespace

void read_memory_node(const DtNode& node, DtCells cells, HostDescription& host, Refusals& refusals) {
  const auto reg = DtReg::of(node, cells, refusals);
  if (!reg) return;
  const std::uint8_t numa_node = numa_node_of(node, host, refusals);
  for (std::size_t i = 0; i < reg->count(); ++i) {
    const DtRange range = (*reg)[i];
    if (range.size == 0) continue;  // as boot loaders write for banks that the board could have
    if (!is_physical(range)) {
      refuse(refusals, node, "RAM at {:x} of {:x} bytes ends beyond 40 bits of address: correct reg", range.base,
             range.size);
    } else {
      add_region(node, {{PhysAddr(range.base), range.size}, numa_node}, host, refusals);
    }
  }
}

void read_reservations(const DeviceTree& tree, HostDescription& host, Refusals& refusals) {
  for (std::size_t i = 0; i < tree.reservation_count(); ++i) {
    const DtRange range = tree.reservation(i);
    if (range.size == 0) continue;
    if (!is_physical(range)) {
      refusals.add("/memreserve/: {:x} bytes at {:x} are no range within 40 bits of address: correct it", range.size,
                   range.base);
    } else if (!host.reservations.push_back({.base = PhysAddr(range.base), .size = range.size})) {
      refusals.add("/memreserve/: more than {} entries: join neighbours", host.reservations.capacity());
      break;
    }
  }
}

void read_reserved_memory(const HostNodes& nodes, HostDescription& host, Refusals& refusals) {
  const auto& reserved = nodes.reserved_memory;
  if (!reserved) return;
  const auto cells = cells_of(*reserved, refusals);
  if (!cells) return;
  for (const DtNode node : reserved->children()) {
    if (node.is_enabled()) read_reserved_child(node, *cells, host, refusals);
  }
}

void limit_dma(const DeviceTree& tree, HostDescription& host) {
  for (std::optional<DtNode> bus = tree.root(); bus; bus = bus->next()) {
    const auto ranges = bus->property("dma-ranges");
    const auto end = ranges ? dma_end(*bus, *ranges, host) : std::nullopt;
    if (end) host.zone_dma_limit = std::min(host.zone_dma_limit, PhysAddr(*end));
  }
}

}  // namespace cadastre
