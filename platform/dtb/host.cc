#include "platform/dtb/host.hh"

#include <algorithm>
#include <memory>

#include "platform/dtb/host_parts.hh"

namespace cadastre {
namespace {

constexpr std::uint32_t kMpidrAffinity = 0x00ff'ffff;  // [ARMv7 B4.1.106]

void read_cpus(const HostNodes& nodes, HostDescription& host, Refusals& refusals) {
  const auto& cpus = nodes.cpus;
  if (!cpus) {
    refusals.add("/cpus: missing: give a cpu node for each CPU");
    return;
  }
  const auto cells = cpus->property("#address-cells");
  if (!cells || cells->size() != DtProperty::kCellSize || cells->cell(0) < 1 || cells->cell(0) > 2) {
    refuse(refusals, *cpus, "#address-cells must be there and be 1 or 2: correct it");
    return;
  }
  for (const DtNode node : cpus->children()) {
    const auto type = node.property("device_type");
    if (!type || type->string() != "cpu" || !node.is_enabled()) continue;
    const auto reg = node.property("reg");
    if (!reg || reg->cells() != cells->cell(0) || reg->size() % DtProperty::kCellSize != 0) {
      refuse(refusals, node, "reg must be the CPU's MPIDR in {} cells: correct it", cells->cell(0));
      continue;
    }
    const std::uint64_t mpidr = reg->number(0, reg->cells());
    if ((mpidr & ~std::uint64_t{kMpidrAffinity}) != 0) {
      refuse(refusals, node, "reg {:x} has more than the affinity fields of MPIDR: correct it", mpidr);
      continue;
    }
    const auto is_same = [&](const HostCpu& cpu) { return cpu.mpidr == mpidr; };
    if (std::ranges::any_of(host.cpus, is_same)) {
      refuse(refusals, node, "another CPU has the same reg {:x}: remove one", mpidr);
      continue;
    }
    HostCpu cpu{.mpidr = static_cast<std::uint32_t>(mpidr), .node = numa_node_of(node, host, refusals), .kind = {}};
    const auto compatible = node.property("compatible");
    // One that is too long to keep is like none: nobody is told apart by it.
    if (compatible) static_cast<void>(cpu.kind.assign(compatible->first_string().value_or("")));
    if (!host.cpus.push_back(cpu)) {
      refuse(refusals, node, "more than {} CPUs: start the machine with fewer", host.cpus.capacity());
      return;
    }
  }
  if (host.cpus.empty()) refuse(refusals, *cpus, "no cpu node: give one for each CPU");
}

// [DT numa binding] distance-matrix: (from, to, distance)*.
void read_distances(const HostNodes& nodes, HostDescription& host, Refusals& refusals) {
  const auto& map = nodes.distance_map;
  if (!map) return;
  const auto matrix = map->property("distance-matrix");
  if (!matrix || matrix->size() % (3 * DtProperty::kCellSize) != 0) {
    refuse(refusals, *map, "distance-matrix must be triples of from, to and distance: correct it");
    return;
  }
  for (std::size_t i = 0; i < matrix->cells(); i += 3) {
    const std::uint32_t from = matrix->cell(i);
    const std::uint32_t to = matrix->cell(i + 1);
    const std::uint32_t distance = matrix->cell(i + 2);
    if (from >= kMaxNodes || to >= kMaxNodes || distance < NodeDistances::kLocal || distance > UINT8_MAX) {
      refuse(refusals, *map, "entry ({}, {}, {}): nodes are 0 to {}, distances {} to 255: correct it", from, to,
             distance, kMaxNodes - 1, NodeDistances::kLocal);
      return;
    }
    host.distances.between[from][to] = static_cast<std::uint8_t>(distance);
    host.distances.between[to][from] = static_cast<std::uint8_t>(distance);
  }
}

template <std::size_t N>
void read_bootargs(const DtNode& node, FixedString<N>& bootargs, Refusals& refusals) {
  const auto property = node.property("bootargs");
  if (!property) return;
  const auto text = property->string();
  if (!text || !bootargs.assign(*text)) {
    refuse(refusals, node, "bootargs must be a string of at most {} characters: shorten it", N);
  }
}

void read_chosen(const DtNode& chosen, HostDescription& host, Refusals& refusals) {
  const auto start = chosen.property("linux,initrd-start");
  const auto end = chosen.property("linux,initrd-end");
  if (!start && !end) return;
  const auto first = start ? start->number() : std::nullopt;
  const auto last = end ? end->number() : std::nullopt;
  if (!first || !last || *first > *last || *last > kPhysicalEnd) {
    refuse(refusals, chosen,
           "linux,initrd-start and -end must be an address range of one or two cells each: correct it");
    return;
  }
  if (*first < *last) host.initrd = PhysRange{.base = PhysAddr(*first), .size = *last - *first};
}

// Where a child of the root with a name of its own is kept.
std::optional<DtNode>* place_of(std::string_view name, HostNodes& nodes) {
  struct Place {
    std::string_view name;
    std::optional<DtNode> HostNodes::* node;
  };
  static constexpr std::array<Place, 5> kPlaces = {{{"chosen", &HostNodes::chosen},
                                                    {"hypervisor", &HostNodes::hypervisor},
                                                    {"cpus", &HostNodes::cpus},
                                                    {"reserved-memory", &HostNodes::reserved_memory},
                                                    {"distance-map", &HostNodes::distance_map}}};
  const auto* place = std::ranges::find(kPlaces, name, &Place::name);
  return place == kPlaces.end() ? nullptr : &(nodes.*(place->node));
}

void sort_out(const DtNode& node, HostNodes& nodes) {
  static constexpr std::array<std::string_view, 2> kNames = {"compatible", "dma-ranges"};
  std::array<std::optional<DtProperty>, kNames.size()> values;
  node.properties(kNames, values);
  const auto& [compatible, dma_ranges] = values;
  nodes.has_dma_ranges = nodes.has_dma_ranges || dma_ranges;
  if (!compatible) return;
  const auto keep = [&](bool matches, std::optional<DtNode>& place) {
    if (matches && !place && node.is_enabled()) place = node;
  };
  keep(is_gic(*compatible), nodes.gic);
  // Disabled as well: it is a part of the CPU, which boards with a timer that Linux likes better tell it not to use.
  if (is_timer(*compatible) && !nodes.timer) nodes.timer = node;
  keep(is_psci(*compatible), nodes.psci);
}

// The one walk over the tree, but for the buses that limit DMA, if there are any: that depends on all of RAM.
void read_nodes(const DeviceTree& tree, HostNodes& nodes, HostDescription& host, Refusals& refusals) {
  const auto cells = cells_of(tree.root(), refusals);
  bool has_memory = false;
  for (std::optional<DtNode> node = tree.root(); node; node = node->next()) {
    sort_out(*node, nodes);
    if (node->depth() != 1) continue;
    const std::string_view name = node->name();
    if (auto* place = place_of(name, nodes); place != nullptr && !*place) *place = node;
    // [DT 3.4] fixes the name; `device_type` adds nothing to it.
    if (!DtNode::is_name(name, "memory") || !node->is_enabled()) continue;
    has_memory = true;
    if (cells) read_memory_node(*node, *cells, host, refusals);
  }
  if (!has_memory) {
    refusals.add("/memory: no memory node: describe the RAM with device_type = \"memory\" and reg");
  } else if (host.memory.empty() && refusals.empty()) {
    refusals.add("/memory: all entries of reg are empty: give a size");
  }
  std::ranges::sort(host.memory, {}, &MemoryRegion::base);
}

}  // namespace

std::uint8_t numa_node_of(const DtNode& node, HostDescription& host, Refusals& refusals) {
  const auto property = node.property("numa-node-id");
  if (!property) return 0;
  if (property->size() != DtProperty::kCellSize || property->cell(0) >= kMaxNodes) {
    refuse(refusals, node, "numa-node-id must be one cell, 0 to {}: start the machine with fewer nodes", kMaxNodes - 1);
    return 0;
  }
  host.node_count = std::max(host.node_count, property->cell(0) + 1);
  return static_cast<std::uint8_t>(property->cell(0));
}

bool read_host(const DeviceTree& tree, HostDescription& host, Refusals& refusals) {
  std::construct_at(&host);  // in place: a temporary would be kilobytes on the boot stack
  HostNodes nodes;
  read_nodes(tree, nodes, host, refusals);
  if (nodes.has_dma_ranges) limit_dma(tree, host);
  read_reservations(tree, host, refusals);
  read_reserved_memory(nodes, host, refusals);
  read_cpus(nodes, host, refusals);
  read_distances(nodes, host, refusals);
  read_console(tree, nodes, host);
  read_gic(nodes, host, refusals);
  read_timer(tree, nodes, host, refusals);
  if (nodes.psci) host.psci = psci_of(*nodes.psci);
  if (nodes.chosen) read_chosen(*nodes.chosen, host, refusals);
  if (nodes.hypervisor) read_bootargs(*nodes.hypervisor, host.hypervisor_bootargs, refusals);
  return refusals.empty();
}

}  // namespace cadastre
