#include "platform/dtb/host.hh"

#include "tests/unit/dtb_test_support.hh"
#include "tests/unit/test.hh"

extern "C" {
#include <libfdt.h>
}

namespace cadastre {
namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;

HostReading read_changed(const std::function<void(void*)>& change) {
  return read_host_from(virt_dtb({}, change));
}

TEST_CASE("QEMU's virt machine is described as it is") {
  const auto reading = read_host_from(virt_dtb({.cpus = 4}));
  REQUIRE(reading.is_accepted);
  const HostDescription& host = reading.host;

  REQUIRE_EQ(host.memory.size(), 1);
  CHECK(host.memory[0].base == PhysAddr(0x4000'0000));
  CHECK_EQ(host.memory[0].size, kGiB);
  REQUIRE_EQ(host.cpus.size(), 4);
  CHECK_EQ(host.cpus[3].mpidr, 3);
  CHECK_EQ(host.node_count, 1);
  CHECK(host.zone_dma_limit == PhysAddr(kPhysicalEnd));

  CHECK(host.uart.base == PhysAddr(0x900'0000));
  CHECK_EQ(host.uart.interrupt, 33);
  CHECK(host.gic.distributor.base == PhysAddr(0x800'0000));
  CHECK(host.gic.cpu_interface.base == PhysAddr(0x801'0000));
  CHECK(host.gic.hypervisor.base == PhysAddr(0x803'0000));
  CHECK(host.gic.virtual_cpu.base == PhysAddr(0x804'0000));
  CHECK_EQ(host.gic.virtual_cpu.size, 0x1'0000);
  CHECK_EQ(host.gic.maintenance_interrupt, 25);
  CHECK_EQ(host.timer.secure_physical, 29);
  CHECK_EQ(host.timer.physical, 30);
  CHECK_EQ(host.timer.virtual_timer, 27);
  CHECK_EQ(host.timer.hypervisor, 26);
  CHECK_EQ(host.psci.conduit, PsciConduit::kSmc);
  CHECK_EQ(host.psci.cpu_on, psci::kCpuOn);
  CHECK_EQ(host.psci.system_off, psci::kSystemOff);
  CHECK_FALSE(host.initrd.has_value());
}

TEST_CASE("RAM that reaches above 4 GiB is one region") {
  const auto reading = read_host_from(virt_dtb({.memory = 6 * kGiB}));
  REQUIRE(reading.is_accepted);
  REQUIRE_EQ(reading.host.memory.size(), 1);
  CHECK(reading.host.memory[0].end() == PhysAddr(0x1'c000'0000));
}

TEST_CASE("memory nodes come sorted, with their NUMA node, CPUs too, and the distances") {
  const auto reading = read_host_from(virt_dtb({.cpus = 4, .memory = 2 * kGiB, .numa_nodes = 2}));
  REQUIRE(reading.is_accepted);
  REQUIRE_EQ(reading.host.memory.size(), 2);
  CHECK(reading.host.memory[0].base == PhysAddr(0x4000'0000));
  CHECK_EQ(reading.host.memory[0].node, 0);
  CHECK(reading.host.memory[1].base == PhysAddr(0x8000'0000));
  CHECK_EQ(reading.host.memory[1].node, 1);
  CHECK_EQ(reading.host.cpus[1].node, 0);
  CHECK_EQ(reading.host.cpus[2].node, 1);
  CHECK_EQ(reading.host.node_count, 2);
  CHECK_EQ(reading.host.distances.between[0][1], 20);
  CHECK_EQ(reading.host.distances.between[1][1], 10);
}

TEST_CASE("what is reserved is told with all that is said of it") {
  const auto reserved = [](DtbBuilder& b) {
    b.begin("reserved-memory").cells("#address-cells", {2}).cells("#size-cells", {2}).flag("ranges");
    b.begin("firmware@50000000")
        .cells("reg", {0, 0x5000'0000, 0, 0x1000, 0, 0x5010'0000, 0, 0x2000})
        .flag("no-map")
        .end();
    b.begin("linux,cma").text("compatible", "shared-dma-pool").flag("reusable").flag("linux,cma-default");
    b.cells("size", {0, 0x100'0000}).cells("alignment", {0, 0x20'0000});
    b.cells("alloc-ranges", {0, 0x4000'0000, 0, 0x1000'0000}).end();
    b.begin("off@0").reg(0, 1).text("status", "disabled").end().end();
  };
  const auto reading = read_host_from(
      virt_dtb({.more = reserved, .reservations = [](DtbBuilder& b) { b.reserve(0x4800'0000, 0x3000); }}));
  REQUIRE(reading.is_accepted);
  const HostDescription& host = reading.host;
  REQUIRE_EQ(host.reservations.size(), 1);
  CHECK(host.reservations[0].end() == PhysAddr(0x4800'3000));
  REQUIRE_EQ(host.reserved_memory.size(), 3);
  CHECK_EQ(host.reserved_memory[0].name(), "firmware@50000000");
  CHECK(host.reserved_memory[0].no_map);
  CHECK(host.reserved_memory[1].base == PhysAddr(0x5010'0000));
  CHECK_EQ(host.reserved_memory[1].size, 0x2000);
  const ReservedMemory& cma = host.reserved_memory[2];
  CHECK_FALSE(cma.is_placed);
  CHECK(cma.reusable);
  CHECK(cma.is_shared_dma_pool);
  CHECK(cma.is_cma_default);
  CHECK_EQ(cma.size, 0x100'0000);
  CHECK_EQ(cma.alignment, 0x20'0000);
  REQUIRE_EQ(cma.alloc_ranges.size(), 1);
  CHECK(cma.alloc_ranges[0].base == PhysAddr(0x4000'0000));
}

TEST_CASE("the DMA limit is the lowest end of what a bus's masters reach") {
  const auto buses = [](DtbBuilder& b) {
    b.begin("soc").cells("#address-cells", {1}).cells("#size-cells", {1}).flag("ranges");
    b.cells("dma-ranges", {0, 0, 0x4000'0000, 0x3000'0000, 0x8000'0000, 0, 0x8000'0000, 0x1000'0000});
    b.begin("inner").cells("#address-cells", {1}).cells("#size-cells", {1}).cells("dma-ranges", {0, 0, 0x1000'0000});
    b.end().end();
  };
  const auto reading = read_host_from(virt_dtb({.more = buses}));
  REQUIRE(reading.is_accepted);
  // The inner bus reaches 256 MiB, which the outer puts at 1 GiB.
  CHECK(reading.host.zone_dma_limit == PhysAddr(0x5000'0000));
}

TEST_CASE("a bus whose masters have memory of their own, and reach no RAM, limits nothing") {
  const auto buses = [](DtbBuilder& b) {
    b.begin("mlahb").cells("#address-cells", {1}).cells("#size-cells", {1}).flag("ranges");
    b.cells("dma-ranges", {0, 0, 0x3800'0000, 0x1'0000, 0x1000'0000, 0, 0x1000'0000, 0x6'0000}).end();
    b.begin("both").cells("#address-cells", {1}).cells("#size-cells", {1}).flag("ranges");
    b.cells("dma-ranges", {0, 0, 0x3800'0000, 0x1'0000, 0x5000'0000, 0, 0x5000'0000, 0x1000'0000}).end();
  };
  const auto reading = read_host_from(virt_dtb({.more = buses}));
  REQUIRE(reading.is_accepted);
  CHECK(reading.host.zone_dma_limit == PhysAddr(0x6000'0000));
}

TEST_CASE("command lines and the initrd are taken from /chosen and /hypervisor") {
  const auto chosen = [](DtbBuilder& b) {
    b.text("bootargs", "quiet").cells("linux,initrd-start", {0x4800'0000}).cells("linux,initrd-end", {0, 0x4810'0000});
  };
  const auto reading = read_host_from(virt_dtb({
      .more = [](DtbBuilder& b) { b.begin("hypervisor").text("bootargs", "memblock=debug batch").end(); },
      .more_chosen = chosen,
  }));
  REQUIRE(reading.is_accepted);
  CHECK_EQ(reading.host.hypervisor_bootargs.view(), "memblock=debug batch");
  const PhysRange initrd = reading.host.initrd.value_or(PhysRange());
  CHECK(initrd.base == PhysAddr(0x4800'0000));
  CHECK_EQ(initrd.size, 0x10'0000);
}

TEST_CASE("the console's UART is found in a tree that is refused otherwise") {
  const auto blob = virt_dtb({}, [](void* b) { remove_node(b, "/memory@40000000"); });
  const auto uart = find_console(blob.bytes());
  CHECK(uart.value_or(HostUart()).base == PhysAddr(0x900'0000));
  CHECK_FALSE(find_console(blob.bytes().first(100)).has_value());
}

TEST_CASE("of several nodes called chosen, the first without a unit address is meant, early and late") {
  const auto second = [](DtbBuilder& b) { b.begin("chosen").text("stdout-path", "/nowhere").end(); };
  const auto blob = virt_dtb({.more = second}, [](void* b) { REQUIRE(fdt_add_subnode(b, 0, "chosen@1") >= 0); });
  const auto reading = read_host_from(blob);
  REQUIRE(reading.is_accepted);
  CHECK(reading.host.uart.base == PhysAddr(0x900'0000));
  CHECK(find_console(blob.bytes()).value_or(HostUart()).base == PhysAddr(0x900'0000));
}

TEST_CASE("an alias that names itself leads to no console") {
  const auto aliases = [](DtbBuilder& b) { b.begin("aliases").text("loop", "loop").end(); };
  const auto blob = virt_dtb({.more = aliases}, [](void* b) {
    set_text(b, "/chosen", "stdout-path", "loop");
    remove_node(b, "/pl011@9000000");
  });
  const auto reading = read_host_from(blob);
  CHECK(reading.is_accepted);
  CHECK_EQ(reading.host.uart.driver, nullptr);
}

TEST_CASE("a bank that is empty is passed over, as boot loaders write it for what the board could have") {
  const auto reading = read_changed([](void* b) {
    set_cells(b, "/memory@40000000", "reg", {0, 0, 0, 0, 0, 0x4000'0000, 0, 0x1000'0000, 0, 0x8000'0000, 0, 0});
  });
  REQUIRE(reading.is_accepted);
  REQUIRE_EQ(reading.host.memory.size(), 1);
  CHECK_EQ(reading.host.memory[0].size, 0x1000'0000);
}

TEST_CASE("a kernel's own command line is of no interest, however long, or without a value") {
  CHECK(read_changed([](void* b) { set_text(b, "/chosen", "bootargs", std::string(616, 'x').c_str()); }).is_accepted);
  CHECK(read_changed([](void* b) { set_flag(b, "/chosen", "bootargs"); }).is_accepted);
}

TEST_CASE("RAM that cannot be is refused with its node's path") {
  const auto memory = [](std::initializer_list<std::uint32_t> reg) {
    return read_changed([&](void* b) { set_cells(b, "/memory@40000000", "reg", reg); });
  };
  CHECK(
      refuses(read_changed([](void* b) { remove_node(b, "/memory@40000000"); }).refusals, "/memory", "no memory node"));
  CHECK(refuses(memory({0, 0x4000'0000, 0, 0, 0, 0, 0, 0}).refusals, "/memory", "all entries of reg are empty"));
  CHECK(refuses(memory({0, 0x4000'0000, 0}).refusals, "/memory@40000000", "12 bytes", "16"));
  CHECK(refuses(memory({}).refusals, "/memory@40000000", "no reg"));
  CHECK(refuses(memory({0xff, 0xf000'0000, 0, 0x1000'0001}).refusals, "/memory@40000000", "40 bits"));
  CHECK(refuses(memory({0, 0x4000'0000, 0xffff'ffff, 0xffff'ffff}).refusals, "/memory@40000000", "40 bits"));
  CHECK(refuses(memory({0, 0x4000'0000, 0, 0x2000, 0, 0x4000'1000, 0, 0x1000}).refusals, "/memory@40000000",
                "0x40001000 to 0x40002000 overlaps"));
}

TEST_CASE("memory nodes that overlap are refused, neighbours are not") {
  const auto with = [](std::uint32_t base) {
    return read_host_from(virt_dtb({.more = [base](DtbBuilder& b) {
      b.begin("memory@1").text("device_type", "memory").reg(base, 0x1000).end();
    }}));
  };
  CHECK(refuses(with(0x7fff'f000).refusals, "/memory@1", "overlaps"));
  CHECK(with(0x8000'0000).is_accepted);
}

TEST_CASE("cell counts that are missing or impossible are refused") {
  for (const char* name : {"#address-cells", "#size-cells"}) {
    CHECK(refuses(read_changed([&](void* b) { remove_property(b, "/", name); }).refusals, "/: #address-cells"));
    CHECK(refuses(read_changed([&](void* b) { set_cells(b, "/", name, {3}); }).refusals, "/: #address-cells"));
    CHECK(refuses(read_changed([&](void* b) { set_cells(b, "/", name, {0}); }).refusals, "/: #address-cells"));
    CHECK(refuses(read_changed([&](void* b) { set_cells(b, "/", name, {1, 1}); }).refusals, "/: #address-cells"));
  }
  CHECK(refuses(read_changed([](void* b) { remove_property(b, "/cpus", "#address-cells"); }).refusals, "/cpus"));
}

TEST_CASE("a machine without what the hypervisor drives is refused, part by part") {
  const auto reading = read_changed([](void* b) {
    for (const char* path : {"/timer", "/intc@8000000", "/cpus"}) remove_node(b, path);
  });
  CHECK_FALSE(reading.is_accepted);
  CHECK_EQ(reading.refusals.count(), 3);
  for (const char* name : {"/timer", "/intc", "/cpus"}) CHECK(refuses(reading.refusals, name));
}

TEST_CASE("a GIC whose node has no virtual interface is told which parts are missing, and what to start QEMU with") {
  const auto gic = read_changed(
      [](void* b) { set_cells(b, "/intc@8000000", "reg", {0, 0x800'0000, 0, 0x1'0000, 0, 0x801'0000, 0, 0x1'0000}); });
  CHECK_EQ(gic.refusals.count(), 1);
  CHECK(refuses(gic.refusals, "/intc@8000000", "GICH", "virtualization=on"));
}

TEST_CASE("a CPU interface of 4 KiB is taken for the 8 KiB that a GICv2 has, and that is noted") {
  const auto gic_of = [](std::uint32_t size) {
    const auto reading = read_changed([&](void* b) {
      set_cells(b, "/intc@8000000", "reg",
                {0, 0x800'0000, 0, 0x1000, 0, 0x801'0000, 0, size,  //
                 0, 0x803'0000, 0, 0x1000, 0, 0x804'0000, 0, 0x2000});
    });
    REQUIRE(reading.is_accepted);
    return reading.host.gic;
  };
  CHECK_EQ(gic_of(0x1000).cpu_interface.size, 0x2000);
  CHECK(gic_of(0x1000).cpu_interface_is_short);
  CHECK_EQ(gic_of(0x2000).cpu_interface.size, 0x2000);
  CHECK_FALSE(gic_of(0x2000).cpu_interface_is_short);
}

TEST_CASE("the maintenance interrupt is the one that the CPUs have where the tree has none") {
  const auto gic = [](const auto& change) { return read_changed(change).host.gic.maintenance_interrupt; };
  CHECK_EQ(gic([](void* b) { remove_property(b, "/intc@8000000", "interrupts"); }), 25);
  CHECK_EQ(gic([](void* b) { set_cells(b, "/intc@8000000", "interrupts", {1, 7, 4}); }), 23);
  CHECK_EQ(gic([](void* b) { set_cells(b, "/intc@8000000", "interrupts-extended", {0x8005, 1, 6, 4}); }), 22);
  CHECK(refuses(read_changed([](void* b) { set_cells(b, "/intc@8000000", "interrupts", {1, 9}); }).refusals,
                "/intc@8000000", "maintenance"));
}

TEST_CASE(
    "the timer is there though Linux is told not to use it, with the interrupts of the CPUs where some are left out") {
  const auto timer_of = [](const auto& change) {
    const auto reading = read_changed(change);
    REQUIRE(reading.is_accepted);
    const HostTimer& timer = reading.host.timer;
    return std::array{timer.secure_physical, timer.physical, timer.virtual_timer, timer.hypervisor};
  };
  using Ids = std::array<std::uint32_t, 4>;
  constexpr Ids kUsual = {29, 30, 27, 26};
  CHECK(timer_of([](void* b) { set_text(b, "/timer", "status", "disabled"); }) == kUsual);
  CHECK(timer_of([](void* b) { set_text(b, "/timer", "compatible", "arm,armv8-timer"); }) == kUsual);
  CHECK(timer_of([](void* b) { set_cells(b, "/timer", "interrupts", {1, 3, 4, 1, 4, 4}); }) == Ids{19, 20, 27, 26});
  // By their names, in whichever order.
  CHECK(timer_of([](void* b) {
          set_cells(b, "/timer", "interrupts", {1, 1, 4, 1, 2, 4, 1, 3, 4});
          set_texts(b, "/timer", "interrupt-names", {"hyp-phys", "virt", "phys"});
        }) == Ids{29, 19, 18, 17});
  // An SPI is not the CPU's own, and nothing at all is not few.
  const auto is_refused = [](std::initializer_list<std::uint32_t> cells) {
    return refuses(read_changed([&](void* b) { set_cells(b, "/timer", "interrupts", cells); }).refusals, "/timer",
                   "PPIs of the GIC");
  };
  CHECK(is_refused({0, 3, 4}));
  CHECK(is_refused({1}));
}

TEST_CASE("the tree says the timer's frequency where firmware has not set it") {
  CHECK_EQ(read_changed([](void*) {}).host.timer.frequency, 0);
  CHECK_EQ(read_changed([](void* b) { set_cells(b, "/timer", "clock-frequency", {24'000'000}); }).host.timer.frequency,
           24'000'000);
  const auto is_refused = [](std::initializer_list<std::uint32_t> cells) {
    return refuses(read_changed([&](void* b) { set_cells(b, "/timer", "clock-frequency", cells); }).refusals, "/timer",
                   "clock-frequency");
  };
  CHECK(is_refused({0}));
  CHECK(is_refused({0, 24'000'000}));
}

TEST_CASE("firmware may be absent, be one that HYP mode cannot call, or number its functions itself") {
  const auto none = read_changed([](void* b) { remove_node(b, "/psci"); });
  REQUIRE(none.is_accepted);
  CHECK_EQ(none.host.psci.conduit, PsciConduit::kNone);
  const auto hvc = read_changed([](void* b) { set_text(b, "/psci", "method", "hvc"); });
  REQUIRE(hvc.is_accepted);
  CHECK_EQ(hvc.host.psci.conduit, PsciConduit::kHvc);
  const auto unknown = read_changed([](void* b) { set_text(b, "/psci", "method", "telegraph"); });
  REQUIRE(unknown.is_accepted);
  CHECK_EQ(unknown.host.psci.conduit, PsciConduit::kNone);
  const auto old = read_changed([](void* b) {
    set_text(b, "/psci", "compatible", "arm,psci");
    set_cells(b, "/psci", "cpu_on", {0x9500'0003});
  });
  REQUIRE(old.is_accepted);
  CHECK_EQ(old.host.psci.conduit, PsciConduit::kSmc);
  CHECK_EQ(old.host.psci.cpu_on, 0x9500'0003);
  CHECK_EQ(old.host.psci.system_off, 0);
  const auto nameless = read_changed([](void* b) { set_text(b, "/psci", "compatible", "arm,psci"); });
  REQUIRE(nameless.is_accepted);
  CHECK_EQ(nameless.host.psci.cpu_on, 0);
}

TEST_CASE("what kind of CPU each is, is read; a CPU may be of none") {
  const auto named = read_changed([](void* b) { set_text(b, "/cpus/cpu@0", "compatible", "arm,cortex-a7"); });
  REQUIRE(named.is_accepted);
  CHECK_EQ(named.host.cpus[0].kind.view(), "arm,cortex-a7");
  const auto nameless = read_changed([](void* b) { remove_property(b, "/cpus/cpu@0", "compatible"); });
  REQUIRE(nameless.is_accepted);
  CHECK(nameless.host.cpus[0].kind.empty());
}

TEST_CASE("a root that says it is a GIC is refused, and one that says it is a UART is no console") {
  CHECK(refuses(read_changed([](void* b) { set_text(b, "/", "compatible", "arm,gic-400"); }).refusals, "/: the root"));
  const auto console = read_changed([](void* b) {
    set_text(b, "/", "compatible", "arm,pl011");
    set_text(b, "/chosen", "stdout-path", "/");
    remove_node(b, "/pl011@9000000");
  });
  CHECK(console.is_accepted);
  CHECK_EQ(console.host.uart.driver, nullptr);
}

TEST_CASE("more than there is room for is refused, not cut") {
  CHECK(refuses(read_host_from(virt_dtb({.cpus = kMaxCpus + 1})).refusals, "/cpus/cpu@8", "more than 8"));
  const auto many = [](DtbBuilder& b) {
    for (std::uint32_t i = 0; i < 16; ++i) {
      b.begin("memory@" + std::to_string(i))
          .text("device_type", "memory")
          .reg(0x8000'0000 + (i * 0x2000), 0x1000)
          .end();
    }
  };
  CHECK(refuses(read_host_from(virt_dtb({.more = many})).refusals, "/memory@15", "more than 16"));
  const std::string line(512, 'x');
  const auto too_long = [&](DtbBuilder& b) { b.begin("hypervisor").text("bootargs", line).end(); };
  CHECK(refuses(read_host_from(virt_dtb({.more = too_long})).refusals, "/hypervisor", "bootargs"));
}

TEST_CASE("reserved memory that makes no sense is refused") {
  const auto with = [](const std::function<void(DtbBuilder&)>& child) {
    return read_host_from(virt_dtb({.more = [&](DtbBuilder& b) {
      b.begin("reserved-memory").cells("#address-cells", {2}).cells("#size-cells", {2}).flag("ranges").begin("r");
      child(b);
      b.end().end();
    }}));
  };
  CHECK(refuses(with([](DtbBuilder&) {}).refusals, "/reserved-memory/r", "neither reg nor a size"));
  CHECK(refuses(with([](DtbBuilder& b) { b.reg(0x5000'0000, 0); }).refusals, "/reserved-memory/r"));
  CHECK(
      refuses(with([](DtbBuilder& b) { b.reg(0, 1).flag("no-map").flag("reusable"); }).refusals, "exclude each other"));
  CHECK(refuses(with([](DtbBuilder& b) { b.cells("size", {0, 4096}).cells("alignment", {0, 3}); }).refusals,
                "power of two"));
  CHECK(refuses(with([](DtbBuilder& b) { b.cells("size", {0, 4096}).cells("alloc-ranges", {1}); }).refusals,
                "alloc-ranges"));
}

}  // namespace
}  // namespace cadastre
