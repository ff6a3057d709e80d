#include "hyp/config/plan_check.hh"

#include "mm/translation/stage2_format.hh"
#include "tests/unit/config_test_support.hh"

namespace cadastre {
namespace {

// A host with 1 GiB of RAM in two regions that touch.
struct Host {
  std::array<MemoryRegion, 2> memory = {MemoryRegion{{PhysAddr(0x4000'0000), 512 * kMiB}},
                                        MemoryRegion{{PhysAddr(0x6000'0000), 512 * kMiB}}};
  HostResources resources{.free_memory = 900 * kMiB,
                          .table_memory = 900 * kMiB,
                          .guest_overhead = 0x8000,
                          .vcpu_overhead = 0x4000,
                          .max_vcpus = 4,
                          .memory = memory};
};

struct Scene {
  FakeRam ram;
  Host host;
  Configuration configuration;
  Refusals refusals;

  GuestPlan& add(const char* name, PhysAddr at, Bytes file, std::uint64_t memory = 64 * kMiB) {
    GuestPlan& plan = *configuration.guests.emplace_back();
    plan.name = FixedString<31>(name);
    plan.path = DtPath(std::string("/hypervisor/") + name);
    plan.memory = memory;
    plan.kernel.is_given = plan.kernel.is_loaded = true;
    plan.kernel.path = DtPath(std::string("/hypervisor/") + name + "/kernel");
    plan.kernel.range = ram.load(at, std::move(file));
    return plan;
  }
  bool check() {
    const bool is_good = check_plan(configuration, host.resources, ram, refusals);
    CHECK_EQ(is_good, refusals.empty());
    CHECK_EQ(ram.stray_reads, 0);
    return is_good;
  }
};

GuestModule module_at(const char* path, PhysAddr base, std::uint64_t size) {
  GuestModule module;
  module.is_given = module.is_loaded = true;
  module.path = DtPath(path);
  module.range = {.base = base, .size = size};
  return module;
}

TEST_CASE("a plan that works gets a layout for every guest") {
  Scene scene;
  scene.add("a", PhysAddr(0x5000'0000), zimage_file({}));
  scene.add("b", PhysAddr(0x5100'0000), raw_file(4096)).initrd =
      module_at("/hypervisor/b/initrd", PhysAddr(0x5ffff000), 0x2000);  // across two regions
  REQUIRE(scene.check());
  CHECK(scene.configuration.guests[0].layout.entry == IpaAddr(0x4200'0000));
  CHECK(scene.configuration.guests[1].layout.entry == IpaAddr(0x4001'0000));
  CHECK_EQ(scene.configuration.guests[1].layout.segments.size(), 2);
}

GuestPlan plan_with(std::uint64_t memory, unsigned cpus) {
  GuestPlan plan;
  plan.memory = memory;
  plan.cpus = cpus;
  return plan;
}

TEST_CASE(
    "a guest's demand: RAM page by page, a table for each 2 MiB and GiB and the devices, and what vCPUs have in hand") {
  const auto demand = [](std::uint64_t memory, unsigned cpus) { return demand_of(plan_with(memory, cpus)); };
  CHECK_EQ(demand(2 * kMiB, 1).ram, 512);
  CHECK_EQ(demand(2 * kMiB, 1).tables, 1 + 1 + 2 + 4);
  CHECK_EQ(demand(128 * kMiB, 1).tables, 64 + 1 + 2 + 4);
  CHECK_EQ(demand(128 * kMiB, 8).ram, 32768 + 7);
  CHECK_EQ(demand(128 * kMiB, 8).tables, 64 + 1 + 2 + 32);
  CHECK_EQ(demand(1025 * kMiB, 1).tables, 513 + 2 + 2 + 4);
  CHECK_EQ(demand(16 * 1024 * kMiB, 1).ram, 4U << 20);
  CHECK_EQ(demand(16 * 1024 * kMiB, 1).tables, 8192 + 16 + 2 + 4);
}

// Bytes of a guest with so much RAM on the host above, and of what it needs beside that.
std::uint64_t beside(std::uint64_t memory, unsigned cpus) {
  return demand_of(plan_with(memory, cpus)).tables * 4096ULL + 0x8000 + 0x4000ULL * cpus;
}
std::uint64_t need(std::uint64_t memory, unsigned cpus) {
  return demand_of(plan_with(memory, cpus)).ram * 4096ULL + beside(memory, cpus);
}

TEST_CASE("guests fit to the last byte, with what they cost beside their RAM; else each is told what it asks for") {
  for (const bool is_short : {false, true}) {
    Scene scene;
    scene.add("a", PhysAddr(0x5000'0000), raw_file(4096));
    scene.add("b", PhysAddr(0x5100'0000), raw_file(4096)).cpus = 2;
    const std::uint64_t all = need(64 * kMiB, 1) + need(64 * kMiB, 2);
    scene.host.resources.free_memory = is_short ? all - 1 : all;
    CHECK_EQ(scene.check(), !is_short);
    CHECK_EQ(scene.refusals.count(), is_short ? 3 : 0);
    CHECK_EQ(refuses(scene.refusals, "guests: 131076 KiB of guest RAM", size_text(all - 1).view()), is_short);
    CHECK_EQ(refuses(scene.refusals, "/hypervisor/a: asks for 64 MiB of RAM and ", "KiB beside it"), is_short);
    CHECK_EQ(refuses(scene.refusals, "/hypervisor/b: asks for 64 MiB of RAM and ", "KiB beside it"), is_short);
  }
}

TEST_CASE("tables and metadata have to fit into the linear map, whatever memory there is above it") {
  for (const bool is_short : {false, true}) {
    Scene scene;
    scene.add("a", PhysAddr(0x5000'0000), raw_file(4096), 256 * kMiB);
    const std::uint64_t low = beside(256 * kMiB, 1);
    scene.host.resources.table_memory = is_short ? low - 1 : low;
    CHECK_EQ(scene.check(), !is_short);
    CHECK_EQ(refuses(scene.refusals, "/hypervisor/a: ", "for tables and metadata", "of low memory"), is_short);
  }
}

TEST_CASE("a guest that alone wants more than there is is named") {
  Scene scene;
  scene.add("big", PhysAddr(0x5000'0000), raw_file(4096), 901 * kMiB);
  CHECK_FALSE(scene.check());
  CHECK(refuses(scene.refusals, "/hypervisor/big: memory of 901 MiB", "900 MiB"));
  Scene just;
  just.add("just", PhysAddr(0x5000'0000), raw_file(4096), 900 * kMiB);
  CHECK_FALSE(just.check());
  CHECK(refuses(just.refusals, "/hypervisor/just: 900 MiB of guest RAM"));
  CHECK_EQ(just.refusals.count(), 1);
}

TEST_CASE("memory sizes that make no sense are refused, however large") {
  const std::array<std::uint64_t, 5> sizes = {0, 4096, 64 * kMiB + 1, UINT64_MAX, 0xffff'ffff'ffff'f000};
  for (const std::uint64_t size : sizes) {
    Scene scene;
    scene.add("a", PhysAddr(0x5000'0000), raw_file(4096), size);
    scene.add("b", PhysAddr(0x5100'0000), raw_file(4096), size);
    CHECK_FALSE(scene.check());
    CHECK(refuses(scene.refusals, "/hypervisor/a: memory of"));
    CHECK(refuses(scene.refusals, "/hypervisor/b: memory of"));
  }
}

TEST_CASE("CPU counts that cannot be are refused") {
  for (const unsigned cpus : {0U, 5U, 0xffff'ffffU}) {
    Scene scene;
    scene.add("a", PhysAddr(0x5000'0000), raw_file(4096)).cpus = cpus;
    CHECK_FALSE(scene.check());
    CHECK(refuses(scene.refusals, "/hypervisor/a", "give 1 to 4"));
  }
}

TEST_CASE("a file that nobody loaded is named with its node") {
  Scene scene;
  GuestPlan& plan = scene.add("a", PhysAddr(0x5000'0000), raw_file(4096));
  plan.kernel.is_loaded = false;
  plan.kernel.file = FixedString<95>("zImage");
  plan.initrd.is_given = true;
  plan.initrd.path = DtPath("/hypervisor/a/initrd");
  CHECK_FALSE(scene.check());
  CHECK(refuses(scene.refusals, "/hypervisor/a/kernel (zImage): not loaded"));
  CHECK(refuses(scene.refusals, "/hypervisor/a/initrd: not loaded"));
}

TEST_CASE("modules lie in RAM, clear of each other") {
  const auto refused_at = [](PhysAddr base, std::uint64_t size) {
    Scene scene;
    scene.add("a", PhysAddr(0x5000'0000), raw_file(4096)).initrd = module_at("/hypervisor/a/initrd", base, size);
    CHECK_FALSE(scene.check());
    return scene.refusals;
  };
  CHECK(refuses(refused_at(PhysAddr(0x3fff'f000), 0x2000), "/hypervisor/a/initrd", "not all in RAM"));
  CHECK(refuses(refused_at(PhysAddr(0x7fff'f000), 0x1001), "not all in RAM"));
  CHECK(refuses(refused_at(PhysAddr(0x5100'0000), UINT64_MAX), "not all in RAM"));
  CHECK(refuses(refused_at(PhysAddr(UINT64_MAX), 2), "not all in RAM"));
  CHECK(refuses(refused_at(PhysAddr(0x5000'0fff), 2), "/hypervisor/a/initrd", "overlaps /hypervisor/a/kernel"));
  CHECK(refuses(refused_at(PhysAddr(0x5100'0000), 0), "is empty"));
}

TEST_CASE("modules may touch each other") {
  Scene scene;
  scene.add("a", PhysAddr(0x4010'0000), raw_file(4096)).initrd =
      module_at("/hypervisor/a/initrd", PhysAddr(0x4010'1000), 4096);
  scene.add("b", PhysAddr(0x4010'2000), raw_file(4096));
  CHECK(scene.check());
}

TEST_CASE("two guests may start from one file, and only in the same role") {
  Scene scene;
  scene.add("a", PhysAddr(0x5000'0000), raw_file(4096));
  scene.add("b", PhysAddr(0x5000'0000), raw_file(4096));
  scene.add("c", PhysAddr(0x5100'0000), raw_file(4096));
  REQUIRE(scene.check());
  CHECK(scene.configuration.guests[0].kernel.is_shared);
  CHECK(scene.configuration.guests[1].kernel.is_shared);
  CHECK_FALSE(scene.configuration.guests[2].kernel.is_shared);
  scene.configuration.guests[2].initrd = module_at("/hypervisor/c/initrd", PhysAddr(0x5000'0000), 4096);
  CHECK_FALSE(scene.check());
  CHECK(refuses(scene.refusals, "/hypervisor/c/initrd: overlaps /hypervisor/a/kernel"));
}

TEST_CASE("everything wrong with a plan is told at once") {
  Scene scene;
  scene.add("a", PhysAddr(0x5000'0000), Bytes(256, std::byte{'x'}), 4096).cpus = 9;
  scene.add("b", PhysAddr(0x5100'0000), zimage_file({.unpacked = 64 << 20}), 32 * kMiB);
  CHECK_FALSE(scene.check());
  CHECK(refuses(scene.refusals, "/hypervisor/a: memory"));
  CHECK(refuses(scene.refusals, "/hypervisor/a: 9 CPUs"));
  CHECK(refuses(scene.refusals, "/hypervisor/a/kernel", "text"));
  CHECK(refuses(scene.refusals, "/hypervisor/b/kernel", "does not fit"));
  CHECK_EQ(scene.refusals.count(), 4);
}

TEST_CASE("sizes are written as people write them") {
  CHECK_EQ(size_text(128 * kMiB).view(), "128 MiB");
  CHECK_EQ(size_text(12 << 10).view(), "12 KiB");
  CHECK_EQ(size_text(0).view(), "0 bytes");
  CHECK_EQ(size_text(UINT64_MAX).view(), "18446744073709551615 bytes");
}

TEST_CASE("the plans are small enough to be there before any allocator") {
  CHECK_LE(sizeof(HostDescription) + sizeof(Configuration) + sizeof(Refusals), 24 << 10);
}

}  // namespace
}  // namespace cadastre
