#include "tests/trees/reading.hh"

#include <algorithm>

#include "hyp/config/command_line.hh"
#include "hyp/config/image.hh"
#include "hyp/config/plan_check.hh"
#include "mm/base/check.hh"

namespace cadastre::trees {
namespace {

constexpr std::uint64_t kGiB = 1U << 30;
constexpr std::uint64_t kLinearSize = 2 * kGiB;  // as arch/armv7/layout.hh has it

// Files that begin with no magic number are raw instructions.
class Instructions final : public PhysReader {
 public:
  void read(PhysAddr /*from*/, std::span<std::byte> to) override { std::ranges::fill(to, std::byte{0xe1}); }
};

PhysRange physical(const Range& range) {
  return {.base = PhysAddr(range.base), .size = range.size};
}

// As HypAddressSpace: from the first whole GiB of RAM up.
PhysAddr linear_end(const Memblock& memblock) {
  return memblock.start_of_memory().aligned_down(kGiB) + kLinearSize;
}

void check_guests(Reading& reading) {
  const Memblock& memblock = reading.memblock;
  const std::uint64_t free = memblock.memory().total_size - memblock.reserved().total_size;
  const std::uint64_t frames = memblock.memory().total_size >> 8;  // 16 bytes for each of 4 KiB
  Instructions reader;
  const HostResources resources{.free_memory = free - std::min(free, frames),
                                .table_memory = free - std::min(free, frames),
                                .guest_overhead = kPageSize,
                                .vcpu_overhead = kPageSize,
                                .memory = std::span(reading.host.memory.begin(), reading.host.memory.size())};
  (void)check_plan(reading.configuration, resources, reader, reading.refusals);
}

}  // namespace

void read_machine(std::span<const std::byte> blob, const Loaded& loaded, Reading& reading) {
  Refusals& refusals = reading.refusals;
  const auto console = find_console(blob);
  (void)find_psci(blob);
  const auto tree = DeviceTree::open(blob, refusals);
  if (!tree) return;
  const bool is_good = read_host(*tree, reading.host, refusals);
  const CommandLine words(reading.host.hypervisor_bootargs.view());
  check_command_line(words, refusals);
  if (!read_configuration(*tree, reading.configuration, refusals) || !is_good) {
    CHECK(!refusals.empty());
    return;
  }
  // What is found early is what is found.
  CHECK(console.has_value() == (reading.host.uart.driver != nullptr));
  CHECK(!console || console->base == reading.host.uart.base);
  for (const MemoryRegion& region : reading.host.memory) {
    CHECK(reading.memblock.add(region.base, region.size, region.node));
  }
  Memblock& memblock = reading.memblock;
  const Pfn high_memory = frame_of(std::min(linear_end(memblock), memblock.end_of_memory()));
  RamReserver reserver(memblock, zone_edges(memblock, high_memory, reading.host.zone_dma_limit), reading.reservations,
                       refusals);
  reserver.take(physical(loaded.image), physical(loaded.tree), reading.host, reading.configuration);
  reserver.place(reading.host, words);
  reading.pools = reserver.pools();
  memblock.trim_memory(kPageSize);
  if (refusals.empty()) check_guests(reading);
}

}  // namespace cadastre::trees
