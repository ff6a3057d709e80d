// From entry.S to the first guest, in the order of ARCHITECTURE.md, "Boot order". What cannot go on says why
// in one line, and the machine is switched off.
#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>

#include "arch/armv7/boot_mappings.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/cpu.hh"
#include "arch/armv7/image.hh"
#include "arch/armv7/machine.hh"
#include "arch/armv7/psr.hh"
#include "hyp/check/bench.hh"
#include "hyp/check/cpu_translation.hh"
#include "hyp/check/own_cost.hh"
#include "hyp/check/selftest.hh"
#include "hyp/check/walk_check.hh"
#include "hyp/config/command_line.hh"
#include "hyp/config/plan.hh"
#include "hyp/config/plan_check.hh"
#include "hyp/config/reserve.hh"
#include "hyp/core/address_space.hh"
#include "hyp/core/cma_areas.hh"
#include "hyp/core/console.hh"
#include "hyp/core/cpus.hh"
#include "hyp/core/cross_call.hh"
#include "hyp/core/interrupts.hh"
#include "hyp/core/masked_stretch.hh"
#include "hyp/core/memory.hh"
#include "hyp/core/power.hh"
#include "hyp/core/scheduler.hh"
#include "hyp/guest/guests.hh"
#include "hyp/guest/loader.hh"
#include "hyp/guest/terminal.hh"
#include "hyp/guest/timers.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"
#include "hyp/guest/world_switch.hh"
#include "mm/base/address.hh"
#include "mm/base/check.hh"
#include "platform/dtb/device_tree.hh"
#include "platform/dtb/host.hh"

extern "C" [[noreturn]] void continue_on_stack(void* top, void (*next)());

namespace cadastre {
namespace {

// Pages that slab caches take for objects of which a guest has one.
constexpr std::uint64_t kSlabSlack = 16 * kPageSize;
constexpr unsigned kNoResetLimit = ~0U;

arch::Cpu boot_cpu;  // until the DTB has been read
HostDescription host;
Configuration configuration;
Refusals refusals;
Pools pools;
PhysRange image;  // of the hypervisor, bss and boot stack included
PhysRange dtb;

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
  refuse_to_boot(
      "CPU: started in mode {:x}, not in HYP mode (0x1a): have firmware start it there, QEMU by "
      "-M virt,virtualization=on",
      mode);
}

DeviceTree open_device_tree(PhysAddr address) {
  const std::byte* blob = arch::map_boot_dtb(address);
  const std::span header(blob, DeviceTree::kHeaderSize);
  const std::optional<std::size_t> size = DeviceTree::blob_size(header, refusals);
  if (const auto uart = size ? find_console(std::span(blob, *size)) : std::nullopt; uart) {
    console.attach(*uart->driver, {arch::map_boot_uart(uart->base), uart->layout});
  }
  if (size) set_firmware(find_psci(std::span(blob, *size)));
  if (!size) refuse_and_power_off();
  const std::optional<DeviceTree> tree = DeviceTree::open(std::span(blob, *size), refusals);
  if (!tree) refuse_and_power_off();
  return *tree;
}

// What RAM there is, what of it is taken already, and where the pools go.
void fill_memblock(const CommandLine& words) {
  Memblock& memblock = memory.memblock;
  for (const MemoryRegion& region : host.memory) {
    must(memblock.add(region.base, region.size, region.node), "its regions");
  }
  const Pfn high_memory = frame_of(std::min(HypAddressSpace::linear_end(memblock), memblock.end_of_memory()));
  RamReserver reserver(memblock, zone_edges(memblock, high_memory, host.zone_dma_limit), memory.reservations, refusals);
  reserver.take(image, dtb, host, configuration);
  reserver.place(host, words);
  pools = reserver.pools();
  memblock.trim_memory(kPageSize);
}

// Final tables, then memory in the linear map can be used, then a stack with a guard page.
void enter_final_address_space() {
  must(hyp_space.build(memory.memblock,
                       {.image = image.base,
                        .dtb = dtb.base,
                        .dtb_size = static_cast<std::size_t>(dtb.size),
                        .uart = host.uart.driver != nullptr ? std::optional(host.uart.base) : std::nullopt}),
       "HYP's tables");
  hyp_space.activate();
  memory.memblock.set_current_limit(address_of(arch::machine.high_memory()));
  memory.memblock.allow_resize(arch::machine);
}

void report_memory() {
  std::uint64_t bytes = 0;
  for (const MemoryRegion& region : host.memory) {
    console.print("memory: {} to {}, {} MiB, node {}", region.base, region.end(), region.size >> 20, region.node);
    bytes += region.size;
  }
  const std::uint64_t high = address_of(arch::machine.high_memory()) < memory.memblock.end_of_memory()
                                 ? memory.memblock.end_of_memory() - address_of(arch::machine.high_memory())
                                 : 0;
  console.print("memory: {} MiB, {} MiB of it above the linear map", bytes >> 20, high >> 20);
  memory.pages.print_zones(console);
  // Zones are by what devices reach, and what is not in the linear map is HIGHMEM.
  if (host.zone_dma_limit >= std::min(address_of(arch::machine.high_memory()), memory.memblock.end_of_memory())) {
    console.print("memory: no zone NORMAL: devices reach all of the linear map, so that it is zone DMA");
  }
  // The objects of Memory hold zones, free lists, CPUs' lists, memblock's first arrays.
  const FrameTable& frames = memory.pages.frames();
  const std::size_t of_frames = frames.count() * sizeof(Frame);
  console.print("memory: metadata: {} bytes for each of {} frames, {} KiB, and {} KiB besides", sizeof(Frame),
                frames.count(), of_frames >> 10, (frames.metadata_size() - of_frames + sizeof(memory) + 1023) >> 10);
}

void init_devices() {
  const auto map = [](const PhysRange& registers) {
    const Result<void*> mapped = hyp_space.vmalloc().ioremap(registers.base, static_cast<std::size_t>(registers.size));
    if (!mapped) refuse_to_boot("/intc: its registers cannot be mapped: {}", to_string(mapped.error()));
    return *mapped;
  };
  gic.attach(map(host.gic.distributor), map(host.gic.cpu_interface), map(host.gic.hypervisor));
  init_interrupts(host);
  init_cpu_interrupts();
}

void check_clock() {
  if (!init_clock(host.timer.frequency)) {
    refuse_to_boot("/timer: firmware has not set CNTFRQ: give the timer's clock-frequency");
  }
  if (!clock_runs()) refuse_to_boot("/timer: its count stands still: firmware must start it");
}

// Who types into a console that does not hear should know; and what was taken otherwise than it is written.
void report_devices() {
  if (host.uart.driver != nullptr && host.uart.interrupt == 0) {
    console.print("console: {}: no interrupt of it comes to the GIC: no input is taken", host.uart.path.view());
  }
  if (host.gic.cpu_interface_is_short) {
    console.print("gic: the CPU interface at {} has less than 8 KiB: taken for 8 KiB", host.gic.cpu_interface.base);
  }
}

// The guests' plan against what there is. Nothing is made before all of it is known to be good.
void check_configuration() {
  memory.pages.drain(arch::machine.cpu());
  const HostResources resources{
      .free_memory = std::uint64_t{memory.pages.bookable(Share::kRam)} << kPageShift,
      .table_memory = std::uint64_t{memory.pages.bookable(Share::kTables)} << kPageShift,
      .guest_overhead = sizeof(Vm) + sizeof(GuestMemory) + Stage2<GuestOperations>::kRootBytes + kSlabSlack,
      .vcpu_overhead = sizeof(Vcpu),
      .max_vcpus = kMaxVcpus,
      .memory = std::span(host.memory.begin(), host.memory.size()),
  };
  MappedReader reader;
  if (!check_plan(configuration, resources, reader, refusals)) refuse_and_power_off();
}

// What the command line asks for, before there is any guest. A machine whose memory manager is not sound runs none.
struct Selftest {
  std::string_view name;
  bool (*run)(unsigned cpus, unsigned seed);
};
constexpr Selftest kSelftests[] = {{"mm", selftest_memory}, {"walk", selftest_walk}};

void run_selftests(const CommandLine& words, unsigned cpus) {
  const auto* const test = std::ranges::find(kSelftests, words.value("selftest"), &Selftest::name);
  if (test == std::end(kSelftests)) return;
  const auto seed = static_cast<unsigned>(words.size("seed").value_or(arch::CNTPCT::read()));
  if (!test->run(cpus, seed)) power_off();
}

// What is watched while guests run.
void enable_checks(const CommandLine& words) {
  if (words.value("check") != "walk") return;
  const std::optional<CpuDeviations> cpu = find_deviations();
  if (!cpu)
    refuse_to_boot("check=walk: this CPU's translations are not understood, or there is no memory to ask for them");
  const auto address = words.size("walk-address");
  walk_check.enable(*cpu,
                    address.transform([](std::uint64_t at) { return GuestVirtAddr(static_cast<std::uint32_t>(at)); }));
}

[[noreturn]] void boot_on_own_stack() {
  hyp_space.clear_fixmap(layout::Fixmap::kDtb);  // all that it says has been read
  const CommandLine words(host.hypervisor_bootargs.view());
  const DebugChecks checks = words.value("debug").and_then(parse_debug).value_or(DebugChecks{});
  const auto init_areas = [] { return init_cma_areas(pools, refusals); };
  if (const Result<> done = init_memory(host, checks).and_then(init_areas); !done) {
    refuse_to_boot("/memory: the page allocator: {}; give the machine more RAM", to_string(done.error()));
  }
  if (!refusals.empty()) refuse_and_power_off();
  report_devices();
  report_memory();
  init_devices();
  init_world_switch();
  check_configuration();
  const unsigned cpus = start_secondary_cpus(host, image.base);
  console.print("cpus: {} up", cpus);
  run_selftests(words, cpus);
  if (words.has("bench")) run_benchmarks();
  enable_checks(words);
  terminal.set_lines_only(words.has("batch"));
  const GuestHost guest_host{.gicv = host.gic.virtual_cpu.base,
                             .cpus = cpus,
                             .reset_limit = static_cast<unsigned>(words.size("reset-limit").value_or(kNoResetLimit))};
  if (!book_guests(configuration, guest_host, refusals)) refuse_and_power_off();
  start_guests(configuration);
  const auto period = words.value("own-cost").and_then(parse_period);
  if (period) measure_own_cost(*period);
  if (!words.has("bench") && !period) masked_stretch.watch(cpus);  // it would be part of what the guest measures
  run_vcpus();
}

}  // namespace

extern "C" [[noreturn]] void boot_main(std::uint32_t dtb_address, std::uint32_t load_address, std::uint32_t mode) {
  for (auto* constructor = __init_array_start; constructor != __init_array_end; ++constructor) (*constructor)();
  const DeviceTree tree = open_device_tree(PhysAddr(dtb_address));
  check_mode(mode);
  arch::set_this_cpu(boot_cpu);
  arch::HVBAR::write(reinterpret_cast<std::uintptr_t>(hyp_vectors));

  const bool host_is_good = read_host(tree, host, refusals);
  const CommandLine words(host.hypervisor_bootargs.view());
  check_command_line(words, refusals);
  if (!read_configuration(tree, configuration, refusals) || !host_is_good) refuse_and_power_off();
  check_clock();
  init_boot_cpu(host);
  if (words.value("memblock") == "debug") memory.memblock.set_debug(&console);
  image = {.base = PhysAddr(load_address), .size = static_cast<std::uint64_t>(__image_end - __image_start)};
  dtb = {.base = PhysAddr(dtb_address), .size = tree.size()};
  fill_memblock(words);
  if (!refusals.empty()) refuse_and_power_off();
  enter_final_address_space();
  const auto stack = memory.memblock.alloc(HypAddressSpace::kStackBytes, kPageSize).and_then([](PhysAddr frames) {
    return hyp_space.map_stack(arch::this_cpu().index, frames);
  });
  if (!stack) refuse_to_boot("/memory: no room for a stack; give the machine more RAM");
  continue_on_stack(*stack, boot_on_own_stack);
}

}  // namespace cadastre
