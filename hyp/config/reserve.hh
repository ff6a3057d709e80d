// What of the machine's RAM is taken before there is an allocator, and what for: the hypervisor's image, the device tree, what
// firmware and the tree reserve, the guests' files; and a place for each pool. Two purposes that share memory are refused.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "hyp/config/command_line.hh"
#include "hyp/config/plan.hh"
#include "mm/boot/memblock.hh"
#include "mm/boot/reservations.hh"
#include "mm/frames/page_allocator.hh"
#include "platform/dtb/fixed.hh"
#include "platform/dtb/host.hh"
#include "platform/dtb/refusals.hh"

namespace cadastre {

// Memory that becomes a CMA area: a reusable shared-dma-pool of /reserved-memory, or the command line's `cma=`.
struct Pool {
  std::string_view name;  // its node's; "cma"
  PhysRange range;        // whole blocks of 2 MiB of RAM, of one NUMA node and on one side of each edge
};

using Pools = InplaceVector<Pool, 17>;  // /reserved-memory's, and the command line's

// While memblock is all there is.
class RamReserver {
 public:
  // `memblock` has all memory, and the zones that it will be in have these edges.
  RamReserver(Memblock& memblock, const ZoneEdges& edges, Reservations& reservations, Refusals& refusals)
      : memblock_(memblock),
        edges_{address_of(edges.normal), address_of(edges.highmem)},
        reservations_(reservations),
        refusals_(refusals) {}

  // What has a place, in this order. `image` is the hypervisor's, bss and boot stack included, `dtb` the machine's tree. The
  // names that are recorded are `host`'s and `configuration`'s.
  void take(PhysRange image, PhysRange dtb, const HostDescription& host, const Configuration& configuration);
  // After that, what leaves its place to us: each reservation of /reserved-memory without reg, which then has one in `host`,
  // and the command line's pool.
  void place(HostDescription& host, const CommandLine& words);

  [[nodiscard]] const Pools& pools() const { return pools_; }

 private:
  // False, with the reason told, when it overlaps something or memblock is full.
  bool take_range(std::string_view name, Purpose purpose, PhysRange range);
  void take_node(const ReservedMemory& reserved);
  void take_module(const GuestModule& module);
  void mark_no_map(const ReservedMemory& reserved);
  void place_node(ReservedMemory& reserved, PhysAddr limit);
  void place_from_command_line(const HostDescription& host, const CommandLine& words);
  [[nodiscard]] Result<PhysAddr> find_place(Purpose purpose, std::uint64_t size, std::uint64_t alignment,
                                            PhysAddr start, PhysAddr end);
  [[nodiscard]] bool may_be_pool(std::string_view path, PhysRange range);
  void add_pool(std::string_view name, std::string_view path, PhysRange range);

  Memblock& memblock_;
  const std::array<PhysAddr, 2> edges_;  // the lower one first
  Reservations& reservations_;
  Refusals& refusals_;
  Pools pools_;
};

}  // namespace cadastre
