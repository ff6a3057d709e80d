#include "mm/objects/vmalloc.hh"

#include <map>
#include <random>
#include <vector>

#include "mm/translation/fault.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/table_environment.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr std::uintptr_t kStart = 0xc000'0000;
constexpr PhysAddr kDevice(0x900'0000);

using Table = HypTable<LoggingTables>;

// 16 MiB in the linear map, 16 MiB above it; the region is 64 MiB of addresses.
struct VmallocFixture : PageFixture {
  explicit VmallocFixture(std::uintptr_t size = 64 * kMiB)
      : PageFixture({{.base = kGiB, .size = 32 * kMiB}}, {.high_memory = PhysAddr(kGiB + 16 * kMiB)}),
        vmalloc(table, lock, pages, slabs, HypVirtAddr(kStart), HypVirtAddr(kStart + size)) {
    REQUIRE(slabs.init(&log));
    REQUIRE(vmalloc.init(&log));
    held = now_held();
  }
  ~VmallocFixture() {
    CHECK(vmalloc.close());
    CHECK_EQ(environment.allocated(), 0);
  }
  std::uint32_t now_held() {
    slabs.shrink_all();
    return counts().hyp;
  }
  // Nothing is mapped, and no page or object is left anywhere.
  void check_nothing_left() {
    CHECK_EQ(now_held(), held);
    CHECK_EQ(environment.allocated(), 0);
    CHECK_EQ(table.next_mapped(HypVirtAddr(0)), Table::kInputSize);
  }
  // Where an address leads; a mapping of level 0: nowhere.
  Table::Mapping mapping_at(HypVirtAddr address) { return table.query(address).value_or(Table::Mapping{}); }
  // The byte of RAM that an address leads to; nullptr: none.
  std::byte* at(const void* pointer, std::size_t offset) {
    const auto mapping = table.query(HypVirtAddr(reinterpret_cast<std::uintptr_t>(pointer) + offset));
    return mapping ? machine.bytes_at(mapping->address) : nullptr;
  }
  void fill(const void* pointer, std::size_t size, std::byte value) {
    for (std::size_t i = 0; i < size; i += 512) *at(pointer, i) = value;
  }
  bool is_filled(const void* pointer, std::size_t size, std::byte value) {
    for (std::size_t i = 0; i < size; i += 512) {
      if (*at(pointer, i) != value) return false;
    }
    return true;
  }

  LoggingTables environment;
  Table table{environment, LoggingTables::kRoot};
  Spinlock lock;
  SlabAllocator<FakeMachine> slabs{pages};
  Vmalloc<LoggingTables, FakeMachine> vmalloc;
  std::uint32_t held = 0;
};

void* offset(void* pointer, std::ptrdiff_t bytes) {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(pointer) + static_cast<std::uintptr_t>(bytes));
}

TEST_CASE("vmalloc: any size is contiguous, of high memory first, and between pages that fault") {
  VmallocFixture f;
  void* first = *f.vmalloc.vmalloc(5 * kPageSize + 1, kZero);
  void* second = *f.vmalloc.vmalloc(1);
  CHECK_EQ(first, reinterpret_cast<void*>(kStart));
  CHECK_EQ(second, offset(first, 7 * kPageSize));
  for (std::size_t i = 0; i < 6; ++i) {
    REQUIRE(f.at(first, i * kPageSize) != nullptr);
    const auto mapping = f.mapping_at(HypVirtAddr(kStart + i * kPageSize));
    CHECK_GE(mapping.address, PhysAddr(kGiB + 16 * kMiB));
    CHECK(mapping.attributes == HypAttributes::data());
  }
  CHECK(f.is_filled(first, 6 * kPageSize, std::byte{0}));
  CHECK_EQ(f.at(first, 6 * kPageSize), nullptr);
  CHECK_EQ(f.at(second, kPageSize), nullptr);
  f.vmalloc.print(f.log);
  CHECK_EQ(f.log.lines[f.log.lines.size() - 2], "vmalloc: [0xc0000000-0xc0005fff] 24 KiB vmalloc");
  REQUIRE(f.vmalloc.vfree(first));
  CHECK_EQ(f.at(first, 0), nullptr);
  REQUIRE(f.at(second, 0) != nullptr);
  REQUIRE(f.vmalloc.vfree(second));
  REQUIRE(f.vmalloc.vfree(nullptr));
  f.check_nothing_left();
}

TEST_CASE("vmalloc: more than all of high memory comes from low memory as well, and all memory is not enough") {
  VmallocFixture f;
  void* most = *f.vmalloc.vmalloc(20 * kMiB);
  CHECK_EQ(f.vmalloc.vmalloc(20 * kMiB, kNoWarn).error(), Error::kNoMemory);
  CHECK_EQ(f.vmalloc.vmalloc(64 * kMiB).error(), Error::kLimit);  // no room for the guard page
  CHECK_EQ(f.vmalloc.vmalloc(0).error(), Error::kInvalid);
  CHECK_EQ(f.vmalloc.vmalloc(~std::size_t{0}).error(), Error::kLimit);
  REQUIRE(f.vmalloc.vfree(most));
  f.check_nothing_left();
}

TEST_CASE("vfree: entries are broken, everybody forgets them, and only then frames and tables are free") {
  VmallocFixture f;
  void* pointer = *f.vmalloc.vmalloc(3 * kPageSize);
  f.environment.start_log();
  REQUIRE(f.vmalloc.vfree(pointer));
  // Three entries and the two tables that are empty with them: one flush for all.
  CHECK_EQ(f.environment.story(), "S0 C S0 C S0 C S0 C S0 C D I D F F S0 C");
  CHECK_EQ(f.environment.invalidations(), 1);
  f.check_nothing_left();
}

TEST_CASE("vfree: a large area goes in steps, each with its flush") {
  VmallocFixture f;
  void* pointer = *f.vmalloc.vmalloc(1300 * kPageSize);
  CHECK_EQ(f.environment.allocated(), 4);
  REQUIRE(f.vmalloc.vfree(pointer));
  CHECK_EQ(f.environment.invalidations(), 3);
  f.check_nothing_left();
}

TEST_CASE("vmalloc: a wrong pointer is reported, answered, and changes nothing") {
  VmallocFixture f;
  void* memory = *f.vmalloc.vmalloc(3 * kPageSize);
  void* device = *f.vmalloc.ioremap(kDevice + 0x123, 8);
  int local = 0;
  const auto refused = [&](const Result<>& result) {
    const std::uint32_t before = f.vmalloc.bad_frees();
    CHECK_EQ(result.error(), Error::kCorrupt);
    CHECK_NE(f.log.lines.back().find("is the start of no area"), std::string::npos);
    return before;
  };
  CHECK_EQ(refused(f.vmalloc.vfree(offset(memory, 1))), 1);
  CHECK_EQ(refused(f.vmalloc.vfree(offset(memory, kPageSize))), 2);
  CHECK_EQ(refused(f.vmalloc.vfree(offset(memory, -4096))), 3);
  CHECK_EQ(refused(f.vmalloc.vfree(&local)), 4);
  CHECK_EQ(refused(f.vmalloc.vfree(device)), 5);
  CHECK_EQ(refused(f.vmalloc.iounmap(memory)), 6);
  CHECK_EQ(refused(f.vmalloc.iounmap(offset(device, kPageSize))), 7);
  CHECK(f.at(memory, 2 * kPageSize) != nullptr);
  CHECK(f.table.query(HypVirtAddr(reinterpret_cast<std::uintptr_t>(device))));
  REQUIRE(f.vmalloc.vfree(memory));
  CHECK_EQ(refused(f.vmalloc.vfree(memory)), 8);
  REQUIRE(f.vmalloc.iounmap(device));
  CHECK_EQ(refused(f.vmalloc.iounmap(device)), 9);
  f.check_nothing_left();
}

TEST_CASE("ioremap: registers are device memory at the offset that they have") {
  VmallocFixture f;
  void* device = *f.vmalloc.ioremap(kDevice + 0xff8, 16);  // in two pages
  const auto address = HypVirtAddr(reinterpret_cast<std::uintptr_t>(device));
  CHECK_EQ(address.offset_in(kPageSize), 0xff8);
  CHECK_EQ(f.mapping_at(address).address, kDevice + 0xff8);
  CHECK_EQ(f.mapping_at(address + 15).address, kDevice + 0x1007);
  CHECK(f.mapping_at(address).attributes == HypAttributes::device());
  CHECK_FALSE(f.table.query(address + kPageSize + 8));
  void* large = *f.vmalloc.ioremap(PhysAddr(0x1000'0000), 5 * kMiB);  // two blocks, 256 pages
  CHECK_EQ(f.mapping_at(HypVirtAddr(reinterpret_cast<std::uintptr_t>(large))).level, 2);
  CHECK_EQ(f.mapping_at(HypVirtAddr(reinterpret_cast<std::uintptr_t>(large) + 5 * kMiB - 1)).level, 3);
  const std::uint32_t free = f.pages.free_frames();
  REQUIRE(f.vmalloc.iounmap(device));
  REQUIRE(f.vmalloc.iounmap(large));
  CHECK_EQ(f.pages.free_frames(), free);  // a device's frames are nobody's to free
  f.check_nothing_left();
}

TEST_CASE("ioremap: RAM that the page allocator has, and what is no range, are refused") {
  VmallocFixture f;
  CHECK_EQ(f.vmalloc.ioremap(PhysAddr(kGiB + 8 * kMiB), 4).error(), Error::kInvalid);
  CHECK_EQ(f.vmalloc.ioremap(PhysAddr(kGiB - kPageSize), 2 * kPageSize + 8 * kMiB).error(), Error::kInvalid);
  CHECK_EQ(f.vmalloc.ioremap(kDevice, 0).error(), Error::kInvalid);
  CHECK_EQ(f.vmalloc.ioremap(PhysAddr(~std::uint64_t{0}), 2).error(), Error::kInvalid);
  CHECK_EQ(f.vmalloc.ioremap(PhysAddr(std::uint64_t{1} << 40U), 4).error(), Error::kOutOfRange);
  f.check_nothing_left();
}

TEST_CASE("vmalloc: when the Nth allocation of any kind fails, everything is as before") {
  VmallocFixture f;
  FaultInjector pages;
  FaultInjector objects;
  f.pages.set_fault_injector(&pages);
  f.slabs.set_fault_injector(0, &objects);
  f.held = f.now_held();
  void* pointer = nullptr;
  const auto fails_until_it_works = [&](auto&& arm, auto&& disarm, auto&& allocate, auto&& release) {
    unsigned failures = 0;
    for (;; ++failures) {
      REQUIRE_LT(failures, 2000);
      arm(failures);
      const Result<void*> made = allocate();
      disarm();
      if (made) {
        pointer = *made;
        break;
      }
      CHECK_EQ(made.error(), Error::kNoMemory);
      f.check_nothing_left();
    }
    REQUIRE(release());
    f.check_nothing_left();
    return failures;
  };
  const auto of_pages = [&](auto&& allocate, auto&& release) {
    return fails_until_it_works([&](unsigned n) { pages.arm(n); }, [&] { pages.disarm(); }, allocate, release);
  };
  const auto of_objects = [&](auto&& allocate, auto&& release) {
    return fails_until_it_works([&](unsigned n) { objects.arm(n); }, [&] { objects.disarm(); }, allocate, release);
  };
  const auto of_tables = [&](auto&& allocate, auto&& release) {
    return fails_until_it_works([&](unsigned n) { f.environment.fail_after(n); }, [&] { f.environment.never_fail(); },
                                allocate, release);
  };
  const auto vmalloc = [&] { return f.vmalloc.vmalloc(700 * kPageSize, kNoWarn); };
  const auto vfree = [&] { return f.vmalloc.vfree(pointer); };
  CHECK_GE(of_pages(vmalloc, vfree), 700);
  CHECK_GE(of_objects(vmalloc, vfree), 1);
  CHECK_EQ(of_tables(vmalloc, vfree), 3);
  const auto ioremap = [&] { return f.vmalloc.ioremap(PhysAddr(0x1000'0000), 6 * kMiB + 8); };
  const auto iounmap = [&] { return f.vmalloc.iounmap(pointer); };
  CHECK_GE(of_objects(ioremap, iounmap), 1);
  CHECK_EQ(of_tables(ioremap, iounmap), 2);
  f.slabs.set_fault_injector(0, nullptr);
}

TEST_CASE("vmalloc: random areas keep what was written to them, whatever comes and goes around them") {
  VmallocFixture f(8 * kMiB);
  std::mt19937_64 random(test_seed());
  const auto below = [&](std::size_t bound) { return static_cast<std::size_t>(random() % bound); };
  struct Known {
    std::size_t size;
    std::byte value;
    PhysAddr device;  // 0: memory
  };
  std::map<void*, Known> model;
  for (unsigned step = 0; step < 3000; ++step) {
    if (below(20) == 0) f.environment.fail_after(static_cast<unsigned>(below(3)));
    const auto what = below(10);
    if (what < 4) {
      const std::size_t size = 1 + below(below(5) == 0 ? 700 * kPageSize : 9 * kPageSize);
      const Result<void*> made = f.vmalloc.vmalloc(size, kNoWarn);
      if (made) {
        const auto value = static_cast<std::byte>(below(256));
        f.fill(*made, size, value);
        REQUIRE(model.emplace(*made, Known{size, value, PhysAddr(0)}).second);
      }
    } else if (what < 5) {
      const PhysAddr device = PhysAddr(0x1000'0000 + below(64) * 0x8'1234);
      const std::size_t size = 1 + below(below(5) == 0 ? 5 * kMiB : 0x3000);
      if (const Result<void*> made = f.vmalloc.ioremap(device, size)) {
        REQUIRE(model.emplace(*made, Known{size, {}, device}).second);
      }
    } else if (!model.empty()) {
      const auto victim = std::next(model.begin(), static_cast<std::ptrdiff_t>(below(model.size())));
      const auto& [pointer, known] = *victim;
      if (known.device == PhysAddr(0)) {
        REQUIRE(f.is_filled(pointer, known.size, known.value));
        REQUIRE(f.vmalloc.vfree(pointer));
      } else {
        const auto address = HypVirtAddr(reinterpret_cast<std::uintptr_t>(pointer));
        REQUIRE(f.mapping_at(address + known.size - 1).address == known.device + known.size - 1);
        REQUIRE(f.vmalloc.iounmap(pointer));
      }
      model.erase(victim);
    }
    f.environment.never_fail();
    REQUIRE(f.environment.allocated() == f.table.tables());
  }
  for (const auto& [pointer, known] : model) {
    REQUIRE((known.device == PhysAddr(0) ? f.vmalloc.vfree(pointer) : f.vmalloc.iounmap(pointer)));
  }
  f.check_nothing_left();
}

}  // namespace
}  // namespace cadastre
