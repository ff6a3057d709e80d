#include "tests/unit/config_test_support.hh"

namespace cadastre {
namespace {

using Nodes = std::function<void(DtbBuilder&)>;

struct Reading {
  Configuration configuration;
  Refusals refusals;
  bool is_accepted = false;
};

Reading read_tree(const Blob& blob) {
  Reading reading;
  const auto tree = DeviceTree::open(blob.bytes(), reading.refusals);
  reading.is_accepted = tree && read_configuration(*tree, reading.configuration, reading.refusals);
  return reading;
}

Reading read_hypervisor(const Nodes& inside) {
  return read_tree(virt_dtb({.more = [&](DtbBuilder& b) {
    b.begin("hypervisor").text("compatible", "cadastre,hypervisor").text("bootargs", "batch");
    inside(b);
    b.end();
  }}));
}

// A whole guest: `extra` adds to the guest's node, `kernel` to its kernel's.
void guest(DtbBuilder& b, const char* name, const Nodes& extra = nullptr, const Nodes& kernel = nullptr) {
  b.begin(name).text("compatible", "cadastre,guest").cells("memory", {0, 0x800'0000});
  if (extra) extra(b);
  b.begin("kernel").text("file", "zImage").reg(0x5000'0000, 0x1000);
  if (kernel) kernel(b);
  b.end().end();
}

TEST_CASE("a guest is read with everything it says") {
  const auto reading = read_hypervisor([](DtbBuilder& b) {
    b.begin("linux0").text("compatible", "cadastre,guest").cells("memory", {1, 0x800'0000}).cells("cpus", {2});
    b.begin("kernel").text("file", "boot/zImage").reg(0x5000'0000, 0x1234).text("bootargs", "console=ttyAMA0");
    b.cells("load-offset", {0x2'0000}).end();
    b.begin("initrd").text("file", "root.cpio").reg(0x1'5000'0000, 0x4321).end().end();
  });
  REQUIRE(reading.is_accepted);
  REQUIRE_EQ(reading.configuration.guests.size(), 1);
  const GuestPlan& guest = reading.configuration.guests[0];
  CHECK_EQ(guest.name.view(), "linux0");
  CHECK_EQ(guest.path.view(), "/hypervisor/linux0");
  CHECK_EQ(guest.memory, 0x1'0800'0000);
  CHECK_EQ(guest.cpus, 2);
  CHECK_EQ(guest.bootargs.view(), "console=ttyAMA0");
  CHECK_EQ(guest.load_offset, 0x2'0000);
  CHECK_EQ(guest.kernel.path.view(), "/hypervisor/linux0/kernel");
  CHECK_EQ(guest.kernel.file.view(), "boot/zImage");
  CHECK(guest.kernel.range.base == PhysAddr(0x5000'0000));
  CHECK_EQ(guest.kernel.range.size, 0x1234);
  CHECK(guest.initrd.is_loaded);
  CHECK(guest.initrd.range.base == PhysAddr(0x1'5000'0000));
}

TEST_CASE("what is left out has its default") {
  const auto reading = read_hypervisor([](DtbBuilder& b) { guest(b, "g"); });
  REQUIRE(reading.is_accepted);
  const GuestPlan& plan = reading.configuration.guests[0];
  CHECK_EQ(plan.cpus, 1);
  CHECK_FALSE(plan.is_eager);
  CHECK_EQ(plan.largest_level, 2);
  CHECK(plan.bootargs.empty());
  CHECK_FALSE(plan.load_offset.has_value());
  CHECK_FALSE(plan.initrd.is_given);
}

TEST_CASE("a guest that is disabled is not there") {
  const auto reading = read_hypervisor([](DtbBuilder& b) {
    guest(b, "a", [](DtbBuilder& g) { g.text("status", "disabled"); });
    guest(b, "b");
  });
  REQUIRE(reading.is_accepted);
  REQUIRE_EQ(reading.configuration.guests.size(), 1);
  CHECK_EQ(reading.configuration.guests[0].name.view(), "b");
}

TEST_CASE("of a long file name the end is kept") {
  const std::string name = std::string(200, 'd') + "/zImage";
  const auto reading =
      read_tree(virt_dtb({.more =
                              [](DtbBuilder& b) {
                                b.begin("hypervisor").text("compatible", "cadastre,hypervisor");
                                guest(b, "g");
                                b.end();
                              }},
                         [&](void* blob) { set_text(blob, "/hypervisor/g/kernel", "file", name.c_str()); }));
  REQUIRE(reading.is_accepted);
  CHECK(reading.configuration.guests[0].kernel.file.view().ends_with("/zImage"));
}

TEST_CASE("a tree without guests is refused") {
  CHECK(refuses(read_tree(virt_dtb()).refusals, "/hypervisor: no guest"));
  CHECK(refuses(read_hypervisor([](DtbBuilder&) {}).refusals, "/hypervisor: no guest"));
  CHECK(refuses(read_tree(virt_dtb({.more = [](DtbBuilder& b) { b.begin("hypervisor").end(); }})).refusals,
                "/hypervisor: not compatible with \"cadastre,hypervisor\""));
}

TEST_CASE("what /hypervisor itself says is held against the binding as well") {
  const auto reading = read_hypervisor([](DtbBuilder& b) {
    b.text("bootarg", "batch");
    guest(b, "g");
  });
  CHECK(refuses(reading.refusals, "/hypervisor: unknown property 'bootarg'"));
}

TEST_CASE("each thing wrong with a guest is a line of its own") {
  const auto reading = read_hypervisor([](DtbBuilder& b) {
    b.begin("nokernel").text("compatible", "cadastre,guest").cells("memory", {4096}).cells("cpus", {1, 1});
    b.cells("memroy", {1}).begin("disk").end().end();
    b.begin("stranger").end();
  });
  CHECK_FALSE(reading.is_accepted);
  CHECK(refuses(reading.refusals, "/hypervisor/nokernel: memory must be there, bytes in two cells"));
  CHECK(refuses(reading.refusals, "/hypervisor/nokernel: cpus must be"));
  CHECK(refuses(reading.refusals, "/hypervisor/nokernel: unknown property 'memroy'"));
  CHECK(refuses(reading.refusals, "/hypervisor/nokernel/disk: neither kernel nor initrd"));
  CHECK(refuses(reading.refusals, "/hypervisor/nokernel: no kernel node"));
  CHECK(refuses(reading.refusals, "/hypervisor/stranger: not compatible with \"cadastre,guest\""));
  CHECK_EQ(reading.refusals.count(), 6);
}

TEST_CASE("a kernel node that makes no sense is refused") {
  const auto with = [](const Nodes& kernel) {
    return read_hypervisor([&](DtbBuilder& b) { guest(b, "g", nullptr, kernel); });
  };
  CHECK(refuses(with([](DtbBuilder& b) { b.cells("load-offset", {1, 2, 3}); }).refusals, "/hypervisor/g/kernel",
                "load-offset"));
  CHECK(refuses(with([](DtbBuilder& b) { b.text("bootargs", std::string(1024, 'x')); }).refusals, "at most 1023"));
  CHECK(refuses(with([](DtbBuilder& b) { b.text("bootarg", "x"); }).refusals, "unknown property 'bootarg'"));
  // A number begins with a zero byte, and two strings are not one.
  CHECK(refuses(with([](DtbBuilder& b) { b.cells("bootargs", {1}); }).refusals, "bootargs must be a string"));
  CHECK(refuses(with([](DtbBuilder& b) { b.text("bootargs", std::string("a\0b", 3)); }).refusals,
                "bootargs must be a string"));
  // Only a whole guest can be left out.
  CHECK(refuses(with([](DtbBuilder& b) { b.text("status", "disabled"); }).refusals, "unknown property 'status'"));
  const auto twice = read_hypervisor(
      [](DtbBuilder& b) { guest(b, "g", [](DtbBuilder& g) { g.begin("kernel@1").text("file", "other").end(); }); });
  CHECK(refuses(twice.refusals, "a second kernel node"));
  const auto reg = read_hypervisor([](DtbBuilder& b) {
    b.begin("g").text("compatible", "cadastre,guest").cells("memory", {0, 0x800'0000});
    b.begin("kernel").cells("reg", {0x5000'0000, 0x1000}).cells("file", {}).end().end();
  });
  CHECK(refuses(reg.refusals, "/hypervisor/g/kernel: reg has 8 bytes"));
  CHECK(refuses(reg.refusals, "/hypervisor/g/kernel: file"));
}

TEST_CASE("a guest says when its RAM is populated, and in how large pieces") {
  const auto with = [](const Nodes& policy) { return read_hypervisor([&](DtbBuilder& b) { guest(b, "g", policy); }); };
  const auto eager = with([](DtbBuilder& b) { b.text("populate", "eager").cells("largest-mapping", {0x4000'0000}); });
  REQUIRE(eager.is_accepted);
  CHECK(eager.configuration.guests[0].is_eager);
  CHECK_EQ(eager.configuration.guests[0].largest_level, 1);
  const auto lazy = with([](DtbBuilder& b) { b.text("populate", "lazy").cells("largest-mapping", {0x1000}); });
  REQUIRE(lazy.is_accepted);
  CHECK_FALSE(lazy.configuration.guests[0].is_eager);
  CHECK_EQ(lazy.configuration.guests[0].largest_level, 3);
  CHECK_EQ(with([](DtbBuilder& b) { b.cells("largest-mapping", {0x20'0000}); }).configuration.guests[0].largest_level,
           2);

  CHECK(refuses(with([](DtbBuilder& b) { b.text("populate", "soon"); }).refusals, "/hypervisor/g: populate must be"));
  CHECK(refuses(with([](DtbBuilder& b) { b.cells("populate", {1}); }).refusals, "/hypervisor/g: populate must be"));
  const auto is_size_refused = [&](std::initializer_list<std::uint32_t> size) {
    return refuses(with([&](DtbBuilder& b) { b.cells("largest-mapping", size); }).refusals,
                   "/hypervisor/g: largest-mapping must be");
  };
  CHECK(is_size_refused({0}));
  CHECK(is_size_refused({0x10'0000}));
  CHECK(is_size_refused({0, 0x20'0000}));
  CHECK(is_size_refused({}));
  const auto lazy_gib = with([](DtbBuilder& b) { b.cells("largest-mapping", {0x4000'0000}); });
  CHECK(refuses(lazy_gib.refusals, "/hypervisor/g: largest-mapping of 1 GiB"));
}

TEST_CASE("names are short, made of a node name's characters, and each a guest's own") {
  const auto named = [](const std::string& name) {
    return read_hypervisor([&](DtbBuilder& b) { guest(b, name.c_str()); });
  };
  CHECK(named(std::string(31, 'n')).is_accepted);
  CHECK(refuses(named(std::string(32, 'n')).refusals, "at most 31"));
  CHECK(refuses(named("a b").refusals, "characters"));
  const auto same = read_hypervisor([](DtbBuilder& b) {
    guest(b, "g");
    guest(b, "g");
  });
  CHECK(refuses(same.refusals, "a second guest of this name"));
}

TEST_CASE("more guests than there is room for are refused") {
  const auto reading = read_hypervisor([](DtbBuilder& b) {
    for (unsigned i = 0; i <= kMaxGuests; ++i) guest(b, ("g" + std::to_string(i)).c_str());
  });
  CHECK(refuses(reading.refusals, "/hypervisor/g8", "more than 8 guests"));
}

}  // namespace
}  // namespace cadastre
