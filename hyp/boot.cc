// From entry.S to the first guest, in the order of ARCHITECTURE.md, "Boot order". What cannot go on says why
// in one line, and the machine is switched off.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>

#include "arch/armv7/boot_mappings.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/cpu.hh"
#include "arch/armv7/image.hh"
#include "arch/armv7/machine.hh"
#include "arch/armv7/psr.hh"
#include "hyp/address_space.hh"
#include "hyp/console.hh"
#include "hyp/power.hh"
#include "mm/address.hh"
#include "mm/memblock.hh"
#include "platform/dtb/device_tree.hh"
#include "platform/dtb/host.hh"

extern "C" [[noreturn]] void continue_on_stack(void* top, void (*next)());

namespace cadastre {
namespace {

// Where a report goes when the DTB does not even say where the console is: QEMU virt's UART.
constexpr PhysAddr kFallbackUart(0x0900'0000);

arch::Cpu cpus[kMaxCpus];
Memblock memblock;
HostDescription host;
Refusals refusals;

[[noreturn]] void refuse_and_power_off() {
  refusals.print(console);
  power_off();
}

template <class... Arguments>
[[noreturn]] void refuse_to_boot(std::string_view format, const Arguments&... arguments) {
  refusals.add(format, arguments...);
  refuse_and_power_off();
}

// Only what cannot fail unless there is too little RAM or too much in its description.
void must(const Result<>& result, std::string_view what) {
  if (!result) refuse_to_boot("/memory: {}: {}; give the machine more RAM", what, to_string(result.error()));
}

void check_mode(std::uint32_t mode) {
  if (mode == arch::psr::kHyp) return;
  // The kernel side of PSCI: from SVC mode the conduit is HVC on a machine without HYP mode [PSCI 5.2.1].
  set_psci_conduit(PsciConduit::kHvc);
  refuse_to_boot(
      "CPU: started in mode {:x}, not in HYP mode (0x1a): start QEMU with -M virt,virtualization=on", mode);
}

DeviceTree open_device_tree(PhysAddr address) {
  const std::byte* blob = arch::map_boot_dtb(address);
  const std::span header(blob, DeviceTree::kHeaderSize);
  const std::optional<std::size_t> size = DeviceTree::blob_size(header, refusals);
  if (const auto uart = size ? find_stdout_uart(std::span(blob, *size)) : std::nullopt; uart) {
    console.attach(arch::map_boot_uart(uart->base));
    host.uart = *uart;
  }
  if (!size) refuse_and_power_off();
  const std::optional<DeviceTree> tree = DeviceTree::open(std::span(blob, *size), refusals);
  if (!tree) refuse_and_power_off();
  return *tree;
}

void fill_memblock(PhysAddr image, PhysAddr dtb, std::size_t dtb_size) {
  for (const MemoryRegion& region : host.memory) {
    must(memblock.add(region.base, region.size, region.node), "its regions");
  }
  must(memblock.reserve(image, static_cast<std::uint64_t>(__image_end - __image_start)), "the image");
  must(memblock.reserve(dtb, dtb_size), "the DTB");
  for (const PhysRange& range : host.reservations)
    must(memblock.reserve(range.base, range.size), "/memreserve/");
  for (const ReservedMemory& reserved : host.reserved_memory) {
    if (!reserved.is_placed) continue;
    must(memblock.reserve(reserved.base, reserved.size), "/reserved-memory");
    if (reserved.no_map)
      must(memblock.set_flags(reserved.base, reserved.size, MemblockFlags::kNomap), "no-map");
  }
  if (host.initrd) must(memblock.reserve(host.initrd->base, host.initrd->size), "initrd");
  memblock.trim_memory(kPageSize);
}

[[noreturn]] void boot_on_own_stack() {
  console.print("on own stack");
  power_off();
}

}  // namespace

extern "C" [[noreturn]] void boot_main(std::uint32_t dtb, std::uint32_t load_address, std::uint32_t mode) {
  for (auto* constructor = __init_array_start; constructor != __init_array_end; ++constructor)
    (*constructor)();
  console.attach(arch::map_boot_uart(kFallbackUart));
  const DeviceTree tree = open_device_tree(PhysAddr(dtb));
  check_mode(mode);
  arch::set_this_cpu(cpus[0]);
  arch::HVBAR::write(reinterpret_cast<std::uintptr_t>(hyp_vectors));

  if (!read_host(tree, host, refusals)) refuse_and_power_off();
  set_psci_conduit(host.psci.is_smc ? PsciConduit::kSmc : PsciConduit::kHvc);
  const PhysAddr image(load_address);
  fill_memblock(image, PhysAddr(dtb), tree.size());

  must(hyp_space.build(
           memblock, {.image = image, .dtb = PhysAddr(dtb), .dtb_size = tree.size(), .uart = host.uart.base}),
       "HYP's tables");
  hyp_space.activate();
  memblock.set_current_limit(address_of(arch::machine.high_memory()));
  memblock.allow_resize(arch::machine);
  console.print("final tables");
  const auto stack = memblock.alloc(HypAddressSpace::kStackBytes, kPageSize).and_then([](PhysAddr frames) {
    return hyp_space.map_stack(0, frames);
  });
  if (!stack) refuse_to_boot("/memory: no room for a stack: give the machine more RAM");
  continue_on_stack(*stack, boot_on_own_stack);
}

}  // namespace cadastre
