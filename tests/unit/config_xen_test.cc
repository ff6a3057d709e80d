#include "tests/unit/config_test_support.hh"

namespace cadastre {
namespace {

using Nodes = std::function<void(DtbBuilder&)>;

struct Reading {
  Configuration configuration;
  Refusals refusals;
  bool is_accepted = false;
};

Reading read_chosen(const Nodes& inside, const Nodes& beside = nullptr) {
  Reading reading;
  const Blob blob = virt_dtb({.more = beside, .more_chosen = [&](DtbBuilder& b) {
                                b.cells("#address-cells", {2})
                                    .cells("#size-cells", {2})
                                    .text("xen,xen-bootargs", "console=dtuart bootscrub=0");
                                inside(b);
                              }});
  const auto tree = DeviceTree::open(blob.bytes(), reading.refusals);
  reading.is_accepted = tree && read_configuration(*tree, reading.configuration, reading.refusals);
  return reading;
}

void module(DtbBuilder& b, const char* name, const char* kind, std::uint32_t base, std::uint32_t size) {
  b.begin(name).texts("compatible", {kind, "multiboot,module"}).cells("reg", {0, base, 0, size});
}

void domain(DtbBuilder& b, const char* name, const Nodes& extra = nullptr) {
  b.begin(name).text("compatible", "xen,domain").cells("#address-cells", {2}).cells("#size-cells", {2});
  b.cells("memory", {0, 0x2'0000}).cells("cpus", {1}).flag("vpl011");
  if (extra) extra(b);
  module(b, "module@50000000", "multiboot,kernel", 0x5000'0000, 0x1000);
  b.text("bootargs", "console=ttyAMA0 quiet").end();
  module(b, "module@52000000", "multiboot,ramdisk", 0x5200'0000, 0x2000);
  b.end().end();
}

TEST_CASE("guests written for Xen are read as they are, memory in KiB") {
  const auto reading = read_chosen([](DtbBuilder& b) {
    domain(b, "domU1");
    domain(b, "domU2");
  });
  REQUIRE(reading.is_accepted);
  REQUIRE_EQ(reading.configuration.guests.size(), 2);
  const GuestPlan& guest = reading.configuration.guests[1];
  CHECK_EQ(guest.name.view(), "domU2");
  CHECK_EQ(guest.path.view(), "/chosen/domU2");
  CHECK_EQ(guest.memory, 128 * kMiB);
  CHECK_EQ(guest.cpus, 1);
  CHECK_EQ(guest.bootargs.view(), "console=ttyAMA0 quiet");
  CHECK_EQ(guest.kernel.path.view(), "/chosen/domU2/module@50000000");
  CHECK(guest.kernel.range.base == PhysAddr(0x5000'0000));
  CHECK_EQ(guest.kernel.range.size, 0x1000);
  CHECK(guest.initrd.is_loaded);
  CHECK(guest.initrd.range.base == PhysAddr(0x5200'0000));
}

TEST_CASE("modules are written with the cells of their domain") {
  const auto reading = read_chosen([](DtbBuilder& b) {
    b.begin("domU1").text("compatible", "xen,domain").cells("#address-cells", {1}).cells("#size-cells", {1});
    b.cells("memory", {0, 0x2'0000}).begin("kernel").text("compatible", "multiboot,kernel");
    b.cells("reg", {0x5000'0000, 0x1000}).end().end();
  });
  REQUIRE(reading.is_accepted);
  CHECK_EQ(reading.configuration.guests[0].kernel.range.size, 0x1000);
}

TEST_CASE("both bindings in one tree make one configuration") {
  const auto reading =
      read_chosen([](DtbBuilder& b) { domain(b, "domU1"); },
                  [](DtbBuilder& b) {
                    b.begin("hypervisor")
                        .text("compatible", "cadastre,hypervisor")
                        .begin("own")
                        .text("compatible", "cadastre,guest");
                    b.cells("memory", {0, 0x800'0000}).begin("kernel").reg(0x5100'0000, 64).end().end().end();
                  });
  REQUIRE(reading.is_accepted);
  CHECK_EQ(reading.configuration.guests.size(), 2);
}

TEST_CASE(
    "a domain inherits cell counts from /chosen, may say how much its tables may take, and have bootargs without a "
    "value") {
  const auto reading = read_chosen([](DtbBuilder& b) {
    b.begin("domU1").text("compatible", "xen,domain").cells("memory", {0, 0x2'0000}).cells("cpus", {1});
    b.cells("xen,domain-p2m-mem-mb", {4});
    module(b, "module@50000000", "multiboot,kernel", 0x5000'0000, 0x1000);
    b.flag("bootargs").end().end();
  });
  REQUIRE(reading.is_accepted);
  REQUIRE_EQ(reading.configuration.guests.size(), 1);
  CHECK(reading.configuration.guests[0].kernel.range.base == PhysAddr(0x5000'0000));
  CHECK(reading.configuration.guests[0].bootargs.empty());
  const auto pooled =
      read_chosen([](DtbBuilder& b) { domain(b, "domU1", [](DtbBuilder& d) { d.cells("domain-cpupool", {7}); }); });
  CHECK(refuses(pooled.refusals, "/chosen/domU1: domain-cpupool is not here: the machine's CPUs are one pool"));
}

TEST_CASE("what Xen has and is not here is named") {
  const auto reading = read_chosen([](DtbBuilder& b) {
    domain(b, "domU1", [](DtbBuilder& d) {
      d.flag("xen,enhanced").cells("xen,static-mem", {0, 0x6000'0000, 0, 0x1000}).flag("direct-map").flag("novel");
      d.begin("shm").text("compatible", "xen,domain-shared-memory-v1").end();
      module(d, "module@53000000", "multiboot,device-tree", 0x5300'0000, 0x100);
      d.end();
    });
    b.begin("dom0").texts("compatible", {"xen,linux-zimage", "multiboot,module"}).end();
  });
  CHECK_FALSE(reading.is_accepted);
  CHECK(refuses(reading.refusals, "/chosen/domU1: xen,enhanced is not here: event channels"));
  CHECK(refuses(reading.refusals, "/chosen/domU1: xen,static-mem is not here"));
  CHECK(refuses(reading.refusals, "/chosen/domU1: direct-map is not here"));
  CHECK(refuses(reading.refusals, "/chosen/domU1: novel is not here"));
  CHECK(refuses(reading.refusals, "/chosen/domU1/shm: shared memory"));
  CHECK(refuses(reading.refusals, "/chosen/domU1/module@53000000: a device tree"));
  CHECK(refuses(reading.refusals, "/chosen/dom0: a kernel for dom0"));
  CHECK_EQ(reading.refusals.count(), 7);
}

TEST_CASE("what holds here anyway is accepted") {
  const auto reading = read_chosen([](DtbBuilder& b) {
    domain(b, "domU1", [](DtbBuilder& d) { d.cells("nr_spis", {32}).text("xen,enhanced", "disabled"); });
  });
  CHECK(reading.is_accepted);
  const auto many =
      read_chosen([](DtbBuilder& b) { domain(b, "domU1", [](DtbBuilder& d) { d.cells("nr_spis", {97}); }); });
  CHECK(refuses(many.refusals, "/chosen/domU1: nr_spis", "96"));
}

TEST_CASE("a domain that makes no sense is refused") {
  const auto reading = read_chosen([](DtbBuilder& b) {
    b.begin("domU1").text("compatible", "xen,domain").cells("memory", {0xffff'ffff, 0xffff'ffff});
    b.cells("#address-cells", {3}).end();
    b.begin("domU2").text("compatible", "xen,domain").cells("#address-cells", {2}).cells("#size-cells", {2}).end();
  });
  CHECK(refuses(reading.refusals, "/chosen/domU1: memory"));
  CHECK(refuses(reading.refusals, "/chosen/domU1: #address-cells"));
  CHECK(refuses(reading.refusals, "/chosen/domU2: memory must be there, KiB"));
  CHECK(refuses(reading.refusals, "/chosen/domU2: no multiboot,kernel"));
  const auto twice = read_chosen([](DtbBuilder& b) {
    domain(b, "domU1", [](DtbBuilder& d) {
      module(d, "module@1", "multiboot,kernel", 0x5300'0000, 0x100);
      d.end();
    });
  });
  CHECK(refuses(twice.refusals, "/chosen/domU1/module@50000000: a second module", "/chosen/domU1/module@1"));
}

}  // namespace
}  // namespace cadastre
