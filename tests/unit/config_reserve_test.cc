// What is taken before there is an allocator, read from a machine's tree and taken in a real memblock.
#include "hyp/config/reserve.hh"

#include <memory>

#include "hyp/config/binding.hh"
#include "mm/frames/cma.hh"
#include "tests/unit/config_test_support.hh"

namespace cadastre {
namespace {

using Nodes = std::function<void(DtbBuilder&)>;

constexpr PhysAddr kRam(0x4000'0000);
constexpr PhysRange kImageAt{.base = PhysAddr(0x4001'0000), .size = 0xb'0000};
constexpr PhysRange kTreeAt{.base = PhysAddr(0x4800'0000), .size = 0x1'0000};

// A machine with 1 GiB and one guest, whose kernel lies at 0x4100'0000.
struct Machine {
  struct Options {
    Nodes reserved = nullptr;     // inside of /reserved-memory
    Nodes chosen = nullptr;       // inside of /chosen
    Nodes memreserve = nullptr;   // /memreserve/
    std::string_view words = "";  // of the command line
    std::uint64_t memory = 1024 * kMiB;
    unsigned numa_nodes = 1;
    PhysAddr high_memory = PhysAddr(0xc000'0000);
    PhysAddr kernel = PhysAddr(0x4100'0000);
  };

  explicit Machine(const Options& options) {
    const Blob blob = virt_dtb({.memory = options.memory,
                                .numa_nodes = options.numa_nodes,
                                .more =
                                    [&](DtbBuilder& b) {
                                      b.begin("reserved-memory").cells("#address-cells", {2}).cells("#size-cells", {2});
                                      b.flag("ranges");
                                      if (options.reserved) options.reserved(b);
                                      b.end();
                                    },
                                .more_chosen = options.chosen,
                                .reservations = options.memreserve});
    const auto tree = DeviceTree::open(blob.bytes(), refusals);
    REQUIRE((tree && read_host(*tree, host, refusals)));
    GuestPlan& guest = *configuration.guests.emplace_back();
    guest.kernel.is_given = guest.kernel.is_loaded = true;
    guest.kernel.path = DtPath("/hypervisor/it/kernel");
    guest.kernel.range = {.base = options.kernel, .size = 0x2000};
    for (const MemoryRegion& region : host.memory) REQUIRE(memblock.add(region.base, region.size, region.node));
    const Pfn high = std::min(frame_of(options.high_memory), frame_of(memblock.end_of_memory()));
    RamReserver reserver(memblock, zone_edges(memblock, high, host.zone_dma_limit), reservations, refusals);
    reserver.take(kImageAt, kTreeAt, host, configuration);
    reserver.place(host, CommandLine(options.words));
    pools = reserver.pools();
  }
  [[nodiscard]] std::string_view only_refusal() const {
    CHECK_EQ(refusals.count(), 1);
    return refusals.empty() ? std::string_view() : refusals[0];
  }
  [[nodiscard]] bool is_pool_only(PhysRange range) const {
    const auto regions = memblock.reserved().all();
    return std::ranges::any_of(regions, [&](const MemblockRegion& region) {
      return region.flags == MemblockFlags::kPool && region.base <= range.base && region.end() >= range.end();
    });
  }

  HostDescription host;
  Configuration configuration;
  Refusals refusals;
  Memblock memblock;
  Reservations reservations;
  Pools pools;
};

void node(DtbBuilder& b, const char* name, std::uint64_t base, std::uint64_t size, const char* flag = nullptr) {
  b.begin(name).reg(base, size);
  if (flag != nullptr) b.flag(flag);
  b.end();
}
void pool(DtbBuilder& b, const char* name, std::uint64_t base, std::uint64_t size) {
  b.begin(name).text("compatible", "shared-dma-pool").flag("reusable").reg(base, size).end();
}
void floating_pool(DtbBuilder& b, std::uint32_t size, std::initializer_list<std::uint32_t> ranges = {}) {
  b.begin("pool").text("compatible", "shared-dma-pool").flag("reusable").cells("size", {0, size});
  if (ranges.size() != 0) b.cells("alloc-ranges", ranges);
  b.end();
}

TEST_CASE("reserve: a pool over anything else is refused with both names and where they are") {
  struct Case {
    std::uint64_t base;
    std::uint64_t size;
    std::string_view refusal;
  };
  const Nodes others = [](DtbBuilder& b) {
    node(b, "firmware@50000000", 0x5000'0000, 0x1000, "no-map");
    node(b, "buffer@51000000", 0x5100'0000, 0x1000);
  };
  for (const Case& c :
       {Case{0x4000'0000, 8 * kMiB, "the hypervisor's image at 0x40010000 to 0x400c0000: move one of them"},
        Case{0x4080'0000, 16 * kMiB, "/hypervisor/it/kernel at 0x41000000 to 0x41002000: move one of them"},
        Case{0x47e0'0000, 4 * kMiB, "the device tree at 0x48000000 to 0x48010000: move one of them"},
        Case{0x5000'0000, 2 * kMiB, "/reserved-memory/firmware@50000000 at 0x50000000 to 0x50001000: move one of them"},
        Case{0x5000'0000, 32 * kMiB, "/reserved-memory/firmware@50000000 at"},
        Case{0x5100'0000, 2 * kMiB, "/reserved-memory/buffer@51000000 at"},
        Case{0x4400'0000, 2 * kMiB, "/memreserve/ at 0x44100000"},
        Case{0x4480'0000, 2 * kMiB, "/chosen's initrd at 0x44800000"}}) {
    const Machine machine({.reserved =
                               [&](DtbBuilder& b) {
                                 others(b);
                                 pool(b, "pool@0", c.base, c.size);
                               },
                           .chosen =
                               [](DtbBuilder& b) {
                                 b.cells("linux,initrd-start", {0x4480'0000}).cells("linux,initrd-end", {0x4480'1000});
                               },
                           .memreserve = [](DtbBuilder& b) { b.reserve(0x4410'0000, 0x1000); }});
    CAPTURE(std::string(c.refusal));
    CHECK_NE(machine.only_refusal().find("/reserved-memory/pool@0: "), std::string_view::npos);
    CHECK_NE(machine.only_refusal().find(c.refusal), std::string_view::npos);
    CHECK(machine.pools.empty());
  }
}

TEST_CASE("reserve: a pool that comes first is refused as well, and so is a second one") {
  const Machine no_map({.reserved = [](DtbBuilder& b) {
    pool(b, "pool@50000000", 0x5000'0000, 2 * kMiB);
    node(b, "firmware@50100000", 0x5010'0000, 0x1000, "no-map");
  }});
  CHECK_EQ(no_map.only_refusal(),
           "/reserved-memory/firmware@50100000: 0x50100000 to 0x50101000 overlaps /reserved-memory/pool@50000000 at "
           "0x50000000 to 0x50200000: move one of them");
  const Machine two({.reserved = [](DtbBuilder& b) {
    pool(b, "a@50000000", 0x5000'0000, 4 * kMiB);
    pool(b, "b@50200000", 0x5020'0000, 4 * kMiB);
  }});
  CHECK_NE(
      two.only_refusal().find("/reserved-memory/b@50200000: 0x50200000 to 0x50600000 overlaps /reserved-memory/a@"),
      std::string_view::npos);
  const Machine word(
      {.reserved = [](DtbBuilder& b) { pool(b, "a@50000000", 0x5000'0000, 4 * kMiB); }, .words = "cma=4M@0x50200000"});
  CHECK_NE(word.only_refusal().find("the command line's cma=: 0x50200000 to 0x50600000 overlaps /reserved-memory/a@"),
           std::string_view::npos);
}

TEST_CASE("reserve: a guest's file is not where the hypervisor, its tree or no-map memory is") {
  const Nodes no_map = [](DtbBuilder& b) { node(b, "firmware@50000000", 0x5000'0000, 0x1000, "no-map"); };
  for (const auto& [kernel, other] : {std::pair(PhysAddr(0x400b'ffff), "the hypervisor's image at"),
                                      std::pair(PhysAddr(0x47ff'e001), "the device tree at"),
                                      std::pair(PhysAddr(0x5000'0fff), "overlaps /hypervisor/it/kernel at")}) {
    const Machine machine({.reserved = no_map, .kernel = kernel});
    CHECK_NE(machine.only_refusal().find(other), std::string_view::npos);
  }
  CHECK(Machine({.reserved = no_map, .kernel = PhysAddr(0x400c'0000)}).refusals.empty());
  CHECK(Machine({.reserved = no_map, .kernel = PhysAddr(0x5000'1000)}).refusals.empty());
}

TEST_CASE("reserve: firmware may repeat in /memreserve/ what is reserved in another way") {
  const Machine machine(
      {.reserved =
           [](DtbBuilder& b) {
             node(b, "firmware@50000000", 0x5000'0000, 0x1000, "no-map");
             node(b, "buffer@51000000", 0x5100'0000, 0x1000);
             pool(b, "pool@60000000", 0x6000'0000, 4 * kMiB);
           },
       .chosen =
           [](DtbBuilder& b) { b.cells("linux,initrd-start", {0x4480'0000}).cells("linux,initrd-end", {0x4480'1000}); },
       .memreserve =
           [](DtbBuilder& b) {
             b.reserve(kTreeAt.base.value(), 0x2'0000).reserve(0x4480'0000, 0x1000);
             b.reserve(0x5000'0000, 0x1000).reserve(0x5100'0000, 0x1000).reserve(0x4000'0000, 0x10'0000);
           }});
  CHECK(machine.refusals.empty());
  REQUIRE_EQ(machine.pools.size(), 1);
  CHECK_EQ(machine.pools[0].name, "pool@60000000");
  CHECK(machine.is_pool_only(machine.pools[0].range));
}

TEST_CASE("reserve: why memory cannot be a pool is told as it is") {
  const auto refusal = [](std::uint64_t base, std::uint64_t size, Machine::Options options = {}) {
    options.reserved = [=](DtbBuilder& b) { pool(b, "pool@0", base, size); };
    const Machine machine(options);
    CHECK(machine.pools.empty());
    return std::string(machine.only_refusal());
  };
  CHECK_NE(refusal(0x9000'0000, 32 * kMiB).find("0x90000000 to 0x92000000 is not all in RAM"), std::string::npos);
  CHECK_NE(refusal(0x7fe0'0000, 4 * kMiB).find("is not all in RAM"), std::string::npos);
  CHECK_NE(refusal(0x5000'1000, 2 * kMiB).find("is not whole blocks of 2 MiB"), std::string::npos);
  CHECK_NE(refusal(0x5000'0000, 3 * kMiB).find("is not whole blocks of 2 MiB"), std::string::npos);
  CHECK_NE(refusal(0x5fe0'0000, 4 * kMiB, {.numa_nodes = 2}).find("lies on two NUMA nodes"), std::string::npos);
  CHECK_NE(refusal(0x5fe0'0000, 4 * kMiB, {.high_memory = PhysAddr(0x6000'0000)})
               .find("lies on both sides of 0x60000000, where a zone ends"),
           std::string::npos);
}

TEST_CASE("reserve: a pool that leaves its place to us lies in one zone, clear of everything, and is set aside") {
  // RAM ends a little above the linear map: the highest place would be across the border.
  const PhysAddr edge = kRam + 512 * kMiB;
  for (const std::string_view words : {"", "cma=64M"}) {
    const Machine machine({.reserved =
                               [&](DtbBuilder& b) {
                                 if (words.empty()) floating_pool(b, 64 * kMiB);
                               },
                           .words = words,
                           .memory = 544 * kMiB,
                           .high_memory = edge});
    REQUIRE(machine.refusals.empty());
    REQUIRE_EQ(machine.pools.size(), 1);
    const PhysRange range = machine.pools[0].range;
    CHECK_EQ(range.size, 64 * kMiB);
    CHECK(range.end() == edge);
    CHECK(machine.is_pool_only(range));
  }
}

TEST_CASE("reserve: a pool goes where its alloc-ranges leave room, or is refused by name") {
  const auto in = [](std::initializer_list<std::uint32_t> ranges) {
    return std::make_unique<Machine>(
        Machine::Options{.reserved = [&](DtbBuilder& b) { floating_pool(b, 4 * kMiB, ranges); }});
  };
  // Between the image and the kernel; the first range has no room, because the tree is in it.
  const auto beside = in({0, 0x4800'0000, 0, 0x40'0000, 0, 0x4000'0000, 0, 0x100'0000});
  REQUIRE(beside->refusals.empty());
  CHECK(beside->pools[0].range.base == PhysAddr(0x40c0'0000));
  CHECK_NE(in({0, 0x4800'0000, 0, 0x40'0000})->only_refusal().find("/reserved-memory/pool: no room for 4 MiB"),
           std::string_view::npos);
  CHECK_NE(Machine({.words = "cma=2G"}).only_refusal().find("cma=2G: no such place is free"), std::string_view::npos);
  CHECK_NE(Machine({.words = "cma=2M@0xfffffffffff00000"}).only_refusal().find("not SIZE"), std::string_view::npos);
}

TEST_CASE("reserve: a file whose reg makes no sense reserves nothing, so that the plan can say why") {
  const Machine machine({.kernel = PhysAddr(UINT64_MAX - 0x1000)});
  CHECK(machine.refusals.empty());
  CHECK_FALSE(machine.memblock.is_reserved(PhysAddr(UINT64_MAX - 0x1000)));
}

}  // namespace
}  // namespace cadastre
