// The parts of read_host: the nodes that one walk over the tree has found, and what reads each.
#pragma once

#include "platform/dtb/host.hh"

namespace cadastre {

struct HostNodes {
  std::optional<DtNode> chosen;
  std::optional<DtNode> hypervisor;
  std::optional<DtNode> cpus;
  std::optional<DtNode> reserved_memory;
  std::optional<DtNode> distance_map;
  std::optional<DtNode> gic;
  std::optional<DtNode> timer;
  std::optional<DtNode> psci;
  bool has_dma_ranges = false;
};

// Each adds its refusals and fills what it can.

// host_memory.cc
void read_memory_node(const DtNode& node, DtCells cells, HostDescription& host, Refusals& refusals);
void read_reservations(const DeviceTree& tree, HostDescription& host, Refusals& refusals);
void read_reserved_memory(const HostNodes& nodes, HostDescription& host, Refusals& refusals);
// Lowers `zone_dma_limit` to what each bus reaches by its `dma-ranges`, if it reaches RAM at all.
void limit_dma(const DeviceTree& tree, HostDescription& host);

// host_devices.cc
// Whether it is the machine's GIC or its timer.
[[nodiscard]] bool is_gic(const DtProperty& compatible);
[[nodiscard]] bool is_timer(const DtProperty& compatible);
void read_gic(const HostNodes& nodes, HostDescription& host, Refusals& refusals);
void read_timer(const DeviceTree& tree, const HostNodes& nodes, HostDescription& host, Refusals& refusals);
// `range` of a device on `bus`, as the CPU reaches it; nothing when it does not.
[[nodiscard]] std::optional<PhysRange> cpu_range(const DtNode& bus, DtRange range);

// host_console.cc
// None is no refusal: there would be nowhere to say it.
void read_console(const DeviceTree& tree, const HostNodes& nodes, HostDescription& host);

// host_firmware.cc
[[nodiscard]] bool is_psci(const DtProperty& compatible);
[[nodiscard]] HostPsci psci_of(const DtNode& node);

// host.cc
// `numa-node-id` of a memory or CPU node, 0 when there is none.
[[nodiscard]] std::uint8_t numa_node_of(const DtNode& node, HostDescription& host, Refusals& refusals);

}  // namespace cadastre
