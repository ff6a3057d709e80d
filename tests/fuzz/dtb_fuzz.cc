// Any bytes as the machine's device tree: they are described or refused, and never read beyond their end.
#include <algorithm>
#include <string_view>

#include "platform/dtb/host.hh"
#include "tests/fuzz/dtb_input.hh"

namespace cadastre {
namespace {

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

void check_host(const HostDescription& host) {
  CHECK(!host.memory.empty() && !host.cpus.empty());
  PhysAddr reached(0);
  for (const MemoryRegion& region : host.memory) {
    CHECK(region.size != 0 && region.base >= reached && region.end() > region.base);
    CHECK(region.end() <= PhysAddr(kPhysicalEnd) && region.node < host.node_count);
    reached = region.end();
  }
  for (const PhysRange& range : host.reservations) CHECK(range.end() > range.base);
  for (const ReservedMemory& entry : host.reserved_memory) {
    CHECK(entry.size != 0 && !(entry.no_map && entry.reusable));
    CHECK(!entry.is_placed || entry.base + entry.size <= PhysAddr(kPhysicalEnd));
    CHECK((entry.alignment & (entry.alignment - 1)) == 0);
  }
  CHECK(host.node_count >= 1 && host.node_count <= kMaxNodes);
  CHECK(host.gic.virtual_cpu.size != 0 && host.gic.cpu_interface.size >= 0x2000);
  CHECK(host.gic.maintenance_interrupt >= 16 && host.timer.hypervisor >= 16 && host.timer.hypervisor < 32);
  if (host.initrd) CHECK(host.initrd->end() > host.initrd->base);
}

}  // namespace
}  // namespace cadastre

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cadastre;
  const GuardedBytes blob({data, size});
  const auto uart = find_console(blob.bytes());
  Refusals refusals;
  HostDescription host;
  const auto tree = DeviceTree::open(blob.bytes(), refusals);
  const bool is_accepted = tree && read_host(*tree, host, refusals);
  CHECK(is_accepted == refusals.empty());
  for (std::size_t i = 0; i < std::min(refusals.count(), Refusals::kCapacity); ++i) {
    CHECK(!refusals[i].empty() && is_printable(refusals[i]));
  }
  if (!is_accepted) return 0;
  check_host(host);
  // What is found early is what is found.
  CHECK(uart.has_value() == (host.uart.driver != nullptr));
  if (uart) CHECK(uart->base == host.uart.base && uart->driver == host.uart.driver && uart->layout == host.uart.layout);
  return 0;
}
