// The machine that the hypervisor runs on, as plain values read from its device tree.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "mm/base/address.hh"
#include "mm/base/machine.hh"
#include "mm/base/node.hh"
#include "mm/base/range.hh"
#include "platform/dtb/device_tree.hh"
#include "platform/dtb/fixed.hh"
#include "platform/dtb/refusals.hh"
#include "platform/psci_functions.hh"
#include "platform/uart/uart.hh"

namespace cadastre {

inline constexpr std::uint64_t kPhysicalEnd = std::uint64_t{1} << 40;  // LPAE

// `base` and `size` as they are written: not rounded to pages.
struct MemoryRegion : PhysRange {  // not empty
  NodeId node = 0;
};

// A child of /reserved-memory; a `reg` of several entries makes several. Either it has its place, or its
// size, alignment and the ranges it may be placed in (none: anywhere).
struct ReservedMemory {
  DtPath path;
  bool is_placed = false;
  PhysAddr base;  // when placed
  std::uint64_t size = 0;
  std::uint64_t alignment = 0;  // a power of two, or 0: the placer's choice
  InplaceVector<PhysRange, 2> alloc_ranges;
  bool no_map = false;
  bool reusable = false;
  bool is_shared_dma_pool = false;
  bool is_cma_default = false;  // linux,cma-default

  // Its node's, unit address included.
  [[nodiscard]] std::string_view name() const { return path.view().substr(path.view().rfind('/') + 1); }
};

struct HostCpu {
  std::uint32_t mpidr = 0;  // its affinity fields, as PSCI's CPU_ON takes them
  std::uint8_t node = 0;
  FixedString<31> kind;  // the first of its compatible strings; empty when there is none
};

struct HostUart {
  const UartDriver* driver = nullptr;  // none: the machine has no console
  PhysAddr base;                       // of its registers, which all lie in one page
  UartLayout layout;
  std::uint32_t interrupt = 0;  // GIC interrupt id; 0 when it has none that comes to the GIC
  DtPath path;
};

struct HostGic {            // GICv2 with the virtualization extensions [GICv2 5]
  PhysRange distributor;    // GICD
  PhysRange cpu_interface;  // GICC
  PhysRange hypervisor;     // GICH
  PhysRange virtual_cpu;    // GICV
  std::uint32_t maintenance_interrupt = 0;
  bool cpu_interface_is_short = false;  // its reg has less than the 8 KiB that it is taken for, as some boards' have
};

struct HostTimer {
  // GIC interrupt ids of the generic timer's PPIs.
  std::uint32_t secure_physical = 0;
  std::uint32_t physical = 0;
  std::uint32_t virtual_timer = 0;
  std::uint32_t hypervisor = 0;
  std::uint32_t frequency = 0;  // in Hz, where the tree says it instead of firmware in CNTFRQ; else 0
};

// The functions of the firmware, by number; 0: it has none. From 0.2 on they are PSCI's own; 0.1 gives its own in the tree.
struct HostPsci {
  PsciConduit conduit = PsciConduit::kNone;
  std::uint32_t cpu_on = 0;
  std::uint32_t system_off = 0;
};

struct HostDescription {
  InplaceVector<MemoryRegion, 16> memory;     // sorted by address, none overlaps another
  InplaceVector<PhysRange, 16> reservations;  // /memreserve/
  InplaceVector<ReservedMemory, 16> reserved_memory;
  InplaceVector<HostCpu, kMaxCpus> cpus;
  unsigned node_count = 1;
  NodeDistances distances;
  // The first address that some DMA master cannot reach, from the buses' `dma-ranges`; kPhysicalEnd without
  // any.
  PhysAddr zone_dma_limit = PhysAddr(kPhysicalEnd);
  HostUart uart;
  HostGic gic;
  HostTimer timer;
  HostPsci psci;
  FixedString<511> hypervisor_bootargs;  // /hypervisor
  std::optional<PhysRange> initrd;       // /chosen linux,initrd-start and -end
};

// Fills `host` from `tree`. False, with each reason in `refusals`, when there is anything in it to refuse;
// `host` is not to be used then.
[[nodiscard]] bool read_host(const DeviceTree& tree, HostDescription& host, Refusals& refusals);

// The console, whatever else is wrong: what a refusal is printed on. Of /chosen/stdout-path, else the alias serial0, else
// the first UART in the tree, the first that is enabled and of a known kind. Without its interrupt. From the blob itself
// when it cannot be opened.
[[nodiscard]] std::optional<HostUart> find_console(const DeviceTree& tree);
[[nodiscard]] std::optional<HostUart> find_console(std::span<const std::byte> blob);
// And the firmware, which ends what is refused: the first enabled node of a kind that is known.
[[nodiscard]] HostPsci find_psci(const DeviceTree& tree);
[[nodiscard]] HostPsci find_psci(std::span<const std::byte> blob);

}  // namespace cadastre
