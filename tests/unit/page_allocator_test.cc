#include "mm/frames/page_allocator.hh"
#include "mm/frames/ownership.hh"

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "tests/unit/fake_guest.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

TEST_CASE("zones: RAM is split at the DMA limit and at the end of the linear map, node by node") {
  PageFixture f({{.base = 1 * kGiB, .size = 128 * kMiB}, {.base = 5 * kGiB, .size = 64 * kMiB, .nid = 1}},
                {.high_memory = PhysAddr(kGiB + 96 * kMiB), .dma_limit = PhysAddr(kGiB + 32 * kMiB)});
  const auto present = [&](NodeId nid, ZoneKind kind) { return f.pages.zone(nid, kind).present() * kPageSize / kMiB; };
  CHECK_EQ(present(0, ZoneKind::kDma), 32);
  CHECK_EQ(present(0, ZoneKind::kNormal), 64);
  CHECK_EQ(present(0, ZoneKind::kHighmem), 32);
  CHECK_EQ(present(1, ZoneKind::kDma), 0);
  CHECK_EQ(present(1, ZoneKind::kHighmem), 64);
  // The frames themselves lie at the top of low memory.
  CHECK_LT(f.pages.zone(0, ZoneKind::kNormal).managed(), f.pages.zone(0, ZoneKind::kNormal).present());
  CHECK_EQ(f.pages.zone(1, ZoneKind::kHighmem).managed(), f.pages.zone(1, ZoneKind::kHighmem).present());
  CHECK_EQ(f.pages.zone(0, ZoneKind::kNormal).start(), frame_of(PhysAddr(kGiB + 32 * kMiB)));
  const Watermarks& marks = f.pages.zone(0, ZoneKind::kNormal).watermarks();
  CHECK_LT(0, marks.min);
  CHECK_LT(marks.min, marks.low);
  CHECK_LT(marks.low, marks.high);
  f.check_audit();
}

TEST_CASE("pages: what was allocated before stays out, what was free is given out once, and comes back") {
  PageFixture f(64 * kMiB);
  const std::uint32_t free = f.counts().free;
  CHECK_EQ(f.counts().frames, 64 * kMiB / kPageSize);
  CHECK_EQ(f.counts().reserved + free, 64 * kMiB / kPageSize);
  CHECK_EQ(std::uint64_t{f.counts().reserved} * kPageSize, (f.pages.frames().metadata_size() + 4095) / 4096 * 4096);
  std::set<Pfn> seen;
  std::vector<Pfn> all;
  while (const auto page = f.pages.alloc(0, kNoWarn)) {
    REQUIRE(seen.insert(*page).second);
    REQUIRE_FALSE(f.memblock.is_reserved(address_of(*page)));
    all.push_back(*page);
  }
  // All but what the minimum watermark keeps.
  CHECK_GE(all.size() + f.pages.zone(0, ZoneKind::kDma).watermarks().min + 1, free);
  f.check_audit();
  for (const Pfn page : all) f.pages.free(page, 0);
  CHECK_EQ(f.counts().free, free);
  f.pages.drain(0);
  CHECK_EQ(f.pages.free_frames(), free);
}

TEST_CASE("pages: the CPU's own list serves single pages, the hottest first, cold ones on request") {
  PageFixture f(64 * kMiB);
  std::array<Pfn, 8> pages;
  for (Pfn& page : pages) page = *f.pages.alloc(0);
  for (const Pfn page : pages) f.pages.free(page, 0);
  CHECK_EQ(*f.pages.alloc(0), pages[7]);
  CHECK_EQ(*f.pages.alloc(0), pages[6]);
  CHECK_NE(*f.pages.alloc(0, kCold), pages[5]);
  f.pages.free(pages[6], 0, kCold);
  CHECK_EQ(*f.pages.alloc(0), pages[5]);
  CHECK_EQ(*f.pages.alloc(0, kCold), pages[6]);
  f.check_audit();
}

TEST_CASE("pages: a long series of frees goes back to the zone in batches") {
  PageFixture f(256 * kMiB);
  std::vector<Pfn> all(4000);
  for (Pfn& page : all) page = *f.pages.alloc(0);
  const std::uint32_t before = f.pages.free_frames();
  for (const Pfn page : all) f.pages.free(page, 0);
  CHECK_GT(f.pages.free_frames(), before + 3500);
  f.check_audit();
}

TEST_CASE("zones: RAM that ends in the middle of a section is of one zone to its end") {
  PageFixture f({{.base = kGiB, .size = 33 * kMiB}}, {.high_memory = PhysAddr(kGiB + 33 * kMiB)});
  CHECK_EQ(f.pages.zone(0, ZoneKind::kDma).present(), 33 * kMiB / kPageSize);
  CHECK_EQ(f.pages.zone(0, ZoneKind::kHighmem).present(), 0);
}

TEST_CASE("pages: hypervisor memory is low, guest memory high first, DMA memory within reach") {
  PageFixture f({{.base = kGiB, .size = 96 * kMiB}},
                {.high_memory = PhysAddr(kGiB + 64 * kMiB), .dma_limit = PhysAddr(kGiB + 16 * kMiB)});
  CHECK_LT(*f.pages.alloc(0), frame_of(PhysAddr(kGiB + 64 * kMiB)));
  CHECK_GE(*f.pages.alloc(0), frame_of(PhysAddr(kGiB + 16 * kMiB)));
  CHECK_LT(*f.pages.alloc(0, kDma), frame_of(PhysAddr(kGiB + 16 * kMiB)));
  // All but the block that the watermark keeps.
  for (int i = 0; i < 15; ++i) CHECK_GE(*f.pages.alloc(9, kHighmem | kMovable), frame_of(PhysAddr(kGiB + 64 * kMiB)));
  // High memory is used up: low memory, but what is kept back for those who need it stays.
  unsigned low = 0;
  while (const auto block = f.pages.alloc(9, kHighmem | kMovable | kNoWarn)) {
    CHECK_LT(*block, frame_of(PhysAddr(kGiB + 64 * kMiB)));
    ++low;
  }
  CHECK_GT(low, 10);
  const Zone& normal = f.pages.zone(0, ZoneKind::kNormal);
  CHECK_GE(normal.free_frames(), normal.reserve(ZoneKind::kHighmem) + normal.watermarks().min);
  CHECK(f.pages.alloc(0));
  f.check_audit();
}

TEST_CASE("pages: the nearest node first, then the next; one node only on request") {
  PageAllocatorConfig config;
  config.distances.between[1] = {30, 10, 20, 20};
  PageFixture f({{.base = 1 * kGiB, .size = 32 * kMiB},
                 {.base = 2 * kGiB, .size = 32 * kMiB, .nid = 1},
                 {.base = 3 * kGiB, .size = 32 * kMiB, .nid = 2}},
                {.config = config});
  const auto node_of = [&](Pfn pfn) { return f.pages.zone_of(f.pages.frames().index_of(pfn)).nid(); };
  FakeMachine::current_cpu = 1;
  f.pages.set_cpu_node(1, 1);
  std::vector<NodeId> order;
  while (const auto block = f.pages.alloc(8, kNoWarn | kThisNode)) CHECK_EQ(node_of(*block), 1);
  while (const auto block = f.pages.alloc(8, kNoWarn)) {
    if (order.empty() || order.back() != node_of(*block)) order.push_back(node_of(*block));
  }
  CHECK(order == std::vector<NodeId>{2, 0});
  FakeMachine::current_cpu = 0;
  f.check_audit();
}

TEST_CASE(
    "pages: a request for this node alone fails on a node that has no such memory, whatever the CPU's lists hold") {
  PageFixture f({{.base = 1 * kGiB, .size = 32 * kMiB}, {.base = 2 * kGiB, .size = 32 * kMiB, .nid = 1}},
                {.high_memory = PhysAddr(2 * kGiB), .dma_limit = PhysAddr(2 * kGiB)});
  FakeMachine::current_cpu = 1;
  f.pages.set_cpu_node(1, 1);
  // From node 0: more of its pages are on this CPU's list after that.
  for (int i = 0; i < 3; ++i) CHECK(f.pages.alloc(0));
  CHECK_FALSE(f.pages.alloc(0, kNoWarn | kThisNode));
  CHECK(f.pages.alloc(0, kHighmem | kThisNode));
  FakeMachine::current_cpu = 0;
  f.check_audit();
}

TEST_CASE("pages: what is wanted near a node comes from there, whichever CPU asks and whatever its lists hold") {
  PageFixture f({{.base = 1 * kGiB, .size = 32 * kMiB}, {.base = 2 * kGiB, .size = 32 * kMiB, .nid = 1}}, {});
  const auto node_of = [&](Pfn pfn) { return f.pages.zone_of(f.pages.frames().index_of(pfn)).nid(); };
  f.pages.set_cpu_node(1, 1);
  for (const unsigned cpu : {0U, 1U}) {
    FakeMachine::current_cpu = cpu;
    for (const unsigned order : {0U, 0U, 3U, 9U}) {
      for (const NodeId nid : {NodeId{0}, NodeId{1}}) {
        CHECK_EQ(node_of(*f.pages.alloc_near(nid, order)), nid);
        CHECK_EQ(node_of(*f.pages.alloc_near(nid, order, kThisNode)), nid);
        CHECK_EQ(node_of(*f.pages.alloc(order)), cpu);
      }
    }
  }
  FakeMachine::current_cpu = 0;
  while (f.pages.alloc_near(1, 8, kNoWarn | kThisNode)) {
  }
  CHECK_EQ(node_of(*f.pages.alloc_near(1, 8)), 0);
  f.check_audit();
}

TEST_CASE("pages: zeroed pages are zero, in low and in high memory, single and in blocks") {
  PageFixture f({{.base = kGiB, .size = 32 * kMiB}}, {.high_memory = PhysAddr(kGiB + 16 * kMiB)});
  std::memset(f.machine.bytes_at(PhysAddr(kGiB)), 0x5a, 8 * kMiB);
  std::memset(f.machine.bytes_at(PhysAddr(kGiB + 16 * kMiB)), 0x5a, 16 * kMiB);
  for (const AllocFlags flags : {AllocFlags{}, kHighmem | kMovable}) {
    for (const unsigned order : {0U, 3U, 9U}) {
      const Pfn block = *f.pages.alloc(order, flags | kZero);
      CHECK(f.is_zero(block, order));
    }
  }
  CHECK_EQ(f.machine.mapped(), 0);
}

TEST_CASE("pages: what a guest wrote is gone before the page is anybody else's") {
  PageFixture f({{.base = kGiB, .size = 32 * kMiB}}, {.high_memory = PhysAddr(kGiB + 16 * kMiB)});
  Ownership ownership(f.pages.frames());
  for (const unsigned order : {0U, 4U}) {
    const Pfn block = *f.pages.alloc(order, kHighmem | kMovable);
    REQUIRE(ownership.give(block, 1, Gfn(0x40000)));
    std::memset(f.machine.bytes_at(address_of(block)), 0x5a, kPageSize << order);
    CHECK_EQ(f.counts().guest, 1U << order);
    f.pages.free(block, order);
    CHECK(f.is_zero(block, order));
    CHECK_EQ(f.counts().guest, 0);
  }
}

TEST_CASE("pages: a wrong free is reported with the frame's history and changes nothing") {
  PageFixture f(32 * kMiB);
  std::vector<FrameHistory> history(f.pages.frames().count());
  f.pages.set_history(history);
  const Pfn page = *f.pages.alloc(0);
  const Pfn block = *f.pages.alloc(3);
  const auto refused = [&](Pfn pfn, unsigned order, std::string_view why) {
    f.log.lines.clear();
    CHECK_EQ(f.pages.try_free(pfn, order).error(), Error::kCorrupt);
    REQUIRE_FALSE(f.log.lines.empty());
    CHECK_NE(f.log.lines[0].find(why), std::string::npos);
  };
  refused(block, 2, "wrong order");
  refused(block + 1, 0, "never allocated");
  CHECK_NE(f.log.lines[1].find("inside the block at frame"), std::string::npos);
  refused(Pfn(0), 0, "no RAM");
  refused(frame_of(f.machine.linear_address(f.pages.frames().sections().data())), 0, "never allocated");
  Ownership ownership(f.pages.frames());
  REQUIRE(ownership.give(page, 1, Gfn(5)));
  REQUIRE(ownership.change(page, FrameState::kGuestShared));
  REQUIRE(ownership.get(page));
  refused(page, 0, "shared");
  CHECK_EQ(*ownership.put(page), 1);
  f.pages.free(page, 0);
  refused(page, 0, "free of a free block");
  CHECK_NE(f.log.lines[1].find("last freed by 0x"), std::string::npos);
  CHECK_NE(history[f.pages.frames().index_of(page)].allocated_by, nullptr);
  f.pages.free(block, 3);
  CHECK_EQ(f.pages.bad_frames(), 6);
  f.check_audit();
}

TEST_CASE("pages: a double free of a listed page is found too") {
  PageFixture f(32 * kMiB);
  const Pfn page = *f.pages.alloc(0);
  f.pages.free(page, 0);
  CHECK_EQ(f.pages.try_free(page, 0).error(), Error::kCorrupt);
  f.check_audit();
}

TEST_CASE("pages: a node that begins inside another's 4 MiB is said, with what of it counts as the other's") {
  PageFixture f({{.base = kGiB, .size = 3 * kMiB, .nid = 0},
                 {.base = kGiB + 3 * kMiB, .size = 3 * kMiB, .nid = 1},
                 {.base = kGiB + 6 * kMiB, .size = kMiB, .nid = 2},
                 {.base = kGiB + 8 * kMiB, .size = 4 * kMiB, .nid = 3}},
                {});
  REQUIRE_EQ(f.log.lines.size(), 2);
  CHECK_EQ(f.log.lines[0],
           "pages: node 1 begins at 0x40300000, inside 4 MiB of node 0: 1024 KiB of it count as node 0's");
  CHECK_EQ(f.log.lines[1],
           "pages: node 2 begins at 0x40600000, inside 4 MiB of node 1: 1024 KiB of it count as node 1's");
}

TEST_CASE("pages: poison finds who writes to a free page") {
  PageFixture f(32 * kMiB);
  f.pages.set_poison(true);
  const Pfn page = *f.pages.alloc(0);
  f.pages.free(page, 0);
  CHECK_EQ(*f.pages.alloc(0), page);
  CHECK_EQ(f.pages.bad_frames(), 0);
  f.pages.free(page, 0);
  f.machine.bytes_at(address_of(page))[77] = std::byte{1};
  CHECK_EQ(*f.pages.alloc(0), page);
  CHECK_EQ(f.pages.bad_frames(), 1);
  CHECK_NE(f.log.lines.back().find("written to while it was free"), std::string::npos);
  // All of it alike, but not as it was.
  f.pages.free(page, 0);
  std::memset(f.machine.bytes_at(address_of(page)), 0, kPageSize);
  CHECK_EQ(*f.pages.alloc(0), page);
  CHECK_EQ(f.pages.bad_frames(), 2);
}

TEST_CASE("pages: memory of a node that cannot be is refused") {
  FakeMachine machine({{.base = kGiB, .size = 16 * kMiB}});
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(kGiB), 16 * kMiB, kMaxNodes));
  PageAllocator<FakeMachine> pages(machine);
  CHECK_EQ(pages.init(memblock).error(), Error::kOutOfRange);
}

TEST_CASE("pages: an order that is too large is invalid, and running out is an answer with a line in the log") {
  PageFixture f(16 * kMiB);
  CHECK_EQ(f.pages.alloc(kMaxOrder + 1).error(), Error::kInvalid);
  while (f.pages.alloc(4, kNoWarn)) {
  }
  CHECK(f.log.lines.empty());
  CHECK_EQ(f.pages.alloc(4).error(), Error::kNoMemory);
  REQUIRE_EQ(f.log.lines.size(), 1);
  CHECK_EQ(f.log.lines[0], "pages: no block of order 4 for Unmovable on cpu 0");
  f.check_audit();
}

TEST_CASE("pages: atomic requests may go where others may not") {
  PageFixture f(64 * kMiB);
  while (f.pages.alloc(0, kNoWarn)) {
  }
  unsigned more = 0;
  while (f.pages.alloc(0, kNoWarn | kAtomic)) ++more;
  CHECK_GT(more, 0);
  CHECK_GT(f.pages.free_frames(), 0);
  f.check_audit();
}

TEST_CASE("pages: atomic requests say that memory is low where others would, and go on below that") {
  PageFixture f(64 * kMiB);
  const Zone& zone = f.pages.zone(0, ZoneKind::kDma);
  while (f.pages.pressure() == 0) REQUIRE(f.pages.alloc(3, kAtomic));
  CHECK_LT(zone.free_frames(), zone.watermarks().low + 8);
  CHECK_GE(zone.free_frames(), zone.watermarks().low - 8);
  while (f.pages.alloc(3, kNoWarn | kAtomic)) {
  }
  CHECK_LT(zone.free_frames(), zone.watermarks().min);
}

// Keeps pages and gives them back when asked.
class Hoard final : public Shrinker {
 public:
  explicit Hoard(PageFixture& f) : f_(f) {}
  ~Hoard() {
    while (!kept.empty()) drop();
  }
  std::string_view name() const override { return "hoard"; }
  std::uint32_t count() override { return static_cast<std::uint32_t>(kept.size()); }
  std::uint32_t scan(std::uint32_t pages) override {
    std::uint32_t freed = 0;
    for (; freed < pages && !kept.empty(); ++freed) drop();
    return freed;
  }
  void drop() {
    f_.pages.free(kept.back(), 0);
    kept.pop_back();
  }
  std::vector<Pfn> kept;

 private:
  PageFixture& f_;
};

TEST_CASE("pages: when memory runs low shrinkers are asked, and only those who may wait get theirs") {
  PageFixture f(32 * kMiB);
  Hoard hoard(f);
  f.pages.shrinkers().add(hoard);
  std::vector<Pfn> used;
  for (int i = 0; i < 1000; ++i) hoard.kept.push_back(*f.pages.alloc(0, kNoWarn | kAtomic));
  while (const auto page = f.pages.alloc(0, kNoWarn | kAtomic)) used.push_back(*page);
  CHECK_EQ(hoard.kept.size(), 1000);
  const std::uint32_t pressure = f.pages.pressure();
  CHECK_NE(pressure, 0);
  CHECK(f.pages.alloc(0, kNoWarn));
  CHECK_NE(f.pages.pressure(), pressure);
  CHECK_LT(hoard.kept.size(), 1000);
  // The idle loop brings every zone to its high mark.
  f.pages.balance(0);
  const std::uint32_t balanced = f.pages.pressure();
  used.push_back(*f.pages.alloc(0));
  CHECK_EQ(f.pages.pressure(), balanced);  // nothing to do: the idle loop does not even look
  const Zone& zone = f.pages.zone(0, ZoneKind::kDma);
  CHECK_GE(zone.free_frames(), zone.watermarks().high);
  f.pages.shrinkers().remove(hoard);
  const std::size_t left = hoard.kept.size();
  while (f.pages.alloc(0, kNoWarn)) {
  }
  CHECK_EQ(hoard.kept.size(), left);
}

TEST_CASE("pages: what is adopted while free pages are poisoned is poisoned too") {
  PageFixture f({{.base = kGiB, .size = 64 * kMiB}}, {.reserve_base = kGiB + 8 * kMiB, .reserve_size = 8 * kMiB});
  f.pages.set_poison(true);
  f.pages.adopt(frame_of(PhysAddr(kGiB + 8 * kMiB)), frame_of(PhysAddr(kGiB + 16 * kMiB)));
  while (f.pages.alloc(0, kNoWarn | kNoRetry)) {
  }
  CHECK_EQ(f.pages.bad_frames(), 0);
}

TEST_CASE("pages: reserved memory can be adopted later") {
  PageFixture f({{.base = kGiB, .size = 32 * kMiB}}, {.reserve_base = kGiB + 8 * kMiB, .reserve_size = 5 * kPageSize});
  const FrameCounts before = f.counts();
  f.pages.adopt(frame_of(PhysAddr(kGiB + 8 * kMiB)), frame_of(PhysAddr(kGiB + 8 * kMiB)) + 5);
  CHECK_EQ(f.counts().free, before.free + 5);
  CHECK_EQ(f.counts().reserved, before.reserved - 5);
}

TEST_CASE("pages: without room for the frames the allocator is not made, memblock is as before, and it works later") {
  FakeMachine machine({{.base = kGiB, .size = 32 * kMiB}});
  Memblock memblock;
  REQUIRE(memblock.add(PhysAddr(kGiB), 32 * kMiB));
  PageAllocator pages(machine);
  FaultInjector fault;
  memblock.set_fault_injector(&fault);
  fault.arm(0);
  CHECK_EQ(pages.init(memblock).error(), Error::kNoMemory);
  fault.disarm();
  CHECK_EQ(memblock.reserved().total_size, 0);
  memblock.set_current_limit(PhysAddr(kGiB + kPageSize));  // now there really is none
  CHECK_EQ(pages.init(memblock).error(), Error::kNoMemory);
  CHECK_EQ(memblock.reserved().total_size, 0);
  memblock.set_current_limit(Memblock::kAnywhere);
  REQUIRE(pages.init(memblock));
  pages.release(memblock);
  const auto counts = pages.audit();
  REQUIRE(counts);
  CHECK_EQ(counts->free + counts->reserved, 32 * kMiB / kPageSize);
}

TEST_CASE("pages: when the Nth allocation fails, everything is as before") {
  PageFixture f(32 * kMiB);
  FaultInjector fault;
  f.pages.set_fault_injector(&fault);
  const std::uint32_t free = f.counts().free;
  for (std::uint32_t nth = 0; nth < 4; ++nth) {
    fault.arm(nth);
    for (int i = 0; i < 4; ++i) {
      const auto page = f.pages.alloc(static_cast<unsigned>(i));
      CHECK_EQ(page.has_value(), static_cast<std::uint32_t>(i) != nth);
      if (page) f.pages.free(*page, static_cast<unsigned>(i));
    }
    CHECK_EQ(fault.attempts(), 4);
    CHECK_EQ(f.counts().free, free);
  }
}

// ---- Audit ----

TEST_CASE("audit: finds a frame whose state does not fit") {
  PageFixture f(16 * kMiB);
  FrameTable& frames = f.pages.frames();
  const Pfn page = *f.pages.alloc(0);
  const FrameIndex index = frames.index_of(page);
  const auto fails_at = [&](FrameIndex frame, std::uint32_t word, std::string_view what) {
    const std::uint32_t saved = frames[frame].packed();
    frames[frame].force(FrameWord::unpacked(word));
    const auto audit = f.pages.audit();
    REQUIRE_FALSE(audit);
    CHECK_EQ(audit.error().what, what);
    frames[frame].force(FrameWord::unpacked(saved));
    f.check_audit();
  };
  fails_at(index, FrameWord{.state = FrameState::kHyp, .order = 3, .references = 1}.packed(), "a block within a block");
  fails_at(index, FrameWord{.state = FrameState::kFree}.packed(), "a free block beside its free buddy");
  fails_at(index, FrameWord{.state = FrameState::kCmaIdle}.packed(), "CMA memory in another pageblock's state");
  fails_at(index, FrameWord{.state = FrameState::kCached}.packed(), "per-CPU lists that count other than their frames");
  fails_at(index, FrameWord{.state = FrameState::kCmaLent, .references = 1}.packed(),
           "lent memory outside of a CMA area");
  fails_at(index, FrameWord{.references = 1}.packed(), "a reserved frame with an order, owner or references");
  fails_at(index, 0, "a zone that has lost frames");
  REQUIRE_EQ(frames[0].order(), kMaxOrder);
  fails_at(0, 0, "a zone whose count of free frames is wrong");
  const std::uint32_t type = frames[0].value();
  frames[0].set_value(static_cast<std::uint32_t>(MigrateType::kReclaimable));
  CHECK_EQ(f.pages.audit().error().what, "a free block on another type's list");
  frames[0].set_value(type);
  f.check_audit();
}

TEST_CASE("reports: zones, buddyinfo and pagetypeinfo are tables of what there is") {
  PageFixture f(16 * kMiB);
  REQUIRE(f.pages.alloc(0));
  f.pages.print_zones(f.log);
  f.pages.print_buddyinfo(f.log);
  f.pages.print_pagetypeinfo(f.log);
  REQUIRE_EQ(f.log.lines.size(), 1 + 1 + kMigrateTypes);
  CHECK(f.log.lines[0].starts_with("node 0 zone DMA     [0x40000000-0x40ffffff] spanned 4096 present 4096 managed"));
  CHECK(f.log.lines[1].starts_with("Node 0, zone DMA"));
  CHECK_NE(f.log.lines[2].find("type Unmovable   pageblocks      2"), std::string::npos);
}

// ---- Exact ranges ----

TEST_CASE("contiguous ranges: free memory of any length and place, and back") {
  PageFixture f(64 * kMiB);
  const FrameCounts before = f.counts();
  const Pfn base = frame_of(PhysAddr(kGiB));
  for (const std::uint32_t length : {1U, 7U, 512U, 1500U, 4000U}) {
    const Pfn first = base + 300;
    REQUIRE(f.pages.alloc_contig_range(first, first + length, FrameState::kHyp));
    CHECK_EQ(f.counts().hyp, length);
    CHECK_EQ(f.pages.alloc_contig_range(first + length - 1, first + length + 1, FrameState::kHyp).error(),
             Error::kBusy);
    REQUIRE(f.pages.free_contig_range(first, first + length));
    CHECK_EQ(f.counts().free, before.free);
  }
  CHECK_EQ(f.pages.alloc_contig_range(base, base, FrameState::kHyp).error(), Error::kInvalid);
  CHECK_EQ(f.pages.alloc_contig_range(base - 1, base + 1, FrameState::kHyp).error(), Error::kInvalid);
}

TEST_CASE("contiguous ranges: guests' pages move out of the way with all they hold") {
  PageFixture f(64 * kMiB);
  FakeGuest guest(f, 3);
  for (int i = 0; i < 12; ++i) REQUIRE(guest.grow(9));
  for (int i = 0; i < 700; ++i) REQUIRE(guest.grow(0));
  const Pfn first = guest.lowest() + 100;
  const Pfn past = first + 1000;
  REQUIRE(guest.uses(first, past));
  REQUIRE(f.pages.alloc_contig_range(first, past, FrameState::kDmaPinned));
  CHECK_GT(guest.migrations, 0);
  CHECK_FALSE(guest.uses(first, past));
  guest.check();
  CHECK_EQ(f.counts().pinned, 1000);
  REQUIRE(f.pages.free_contig_range(first, past));
  guest.shrink();
  CHECK_EQ(f.counts().guest, 0);
  f.check_audit();
}

TEST_CASE("contiguous ranges: a block with no place as large to go is split and moved page by page") {
  PageFixture f(32 * kMiB);
  FakeGuest guest(f, 3);
  while (guest.grow(9)) {
  }
  while (guest.grow(6)) {
  }
  // Only small pieces are free elsewhere.
  const Pfn first = frame_of(PhysAddr(kGiB + 4 * kMiB));
  REQUIRE(guest.uses(first, first + 8));
  const auto taken = f.pages.alloc_contig_range(first, first + 8, FrameState::kHyp);
  CHECK_EQ(guest.splits, 1);
  guest.check();
  f.check_audit();
  if (taken) REQUIRE(f.pages.free_contig_range(first, first + 8));
  guest.shrink();
  CHECK_EQ(f.counts().guest, 0);
}

TEST_CASE("contiguous ranges: what does not move is busy, and nothing else changes") {
  PageFixture f(32 * kMiB);
  FakeGuest guest(f, 3);
  for (int i = 0; i < 8; ++i) REQUIRE(guest.grow(9));
  const Pfn hyp = *f.pages.alloc(0);
  const FrameCounts before = f.counts();
  const auto busy = [&](Pfn first, Pfn past) {
    CHECK_EQ(f.pages.alloc_contig_range(first, past, FrameState::kHyp).error(), Error::kBusy);
    CHECK_EQ(f.counts().free, before.free);
    CHECK_EQ(f.counts().guest, before.guest);
    guest.check();
  };
  busy(hyp, hyp + 1);
  guest.refuse = true;
  Pfn used = frame_of(PhysAddr(kGiB));
  while (!guest.uses(used, used + 1)) used += kPagesPerBlock;
  busy(used, used + 10);
  CHECK_GT(guest.migrations, 0);
}

TEST_CASE("contiguous ranges: other CPUs are asked for their pages only when one of them is in the way") {
  PageFixture f(16 * kMiB);
  FakeMachine::current_cpu = 1;
  const Pfn page = *f.pages.alloc(0);
  f.pages.free(page, 0);
  FakeMachine::current_cpu = 0;
  const Pfn kept = *f.pages.alloc(9);
  CHECK_EQ(f.pages.alloc_contig_range(page, page + 1, FrameState::kHyp).error(), Error::kBusy);
  CountingCpus others(f);
  CHECK_EQ(f.pages.alloc_contig_range(kept, kept + 512, FrameState::kHyp).error(), Error::kBusy);
  const Pfn free = *f.pages.alloc(9);
  f.pages.free(free, 9);
  REQUIRE(f.pages.alloc_contig_range(free, free + 100, FrameState::kHyp));
  CHECK_EQ(others.drains, 0);
  others.when_drained = [](PageFixture& fixture) { fixture.pages.drain(1); };
  REQUIRE(f.pages.alloc_contig_range(page, page + 1, FrameState::kHyp));
  CHECK_EQ(others.drains, 1);
  f.check_audit();
}

TEST_CASE("contiguous ranges: isolated pageblocks give nothing until they come back") {
  PageFixture f(16 * kMiB);
  const FrameCounts before = f.counts();
  const Pfn first = frame_of(PhysAddr(kGiB + 4 * kMiB));
  REQUIRE(f.pages.isolate(first, first + 2048));
  CHECK_EQ(f.pages.isolate(first + 512, first + 1024).error(), Error::kBusy);
  while (const auto block = f.pages.alloc(9, kNoWarn)) CHECK_FALSE((*block >= first && *block < first + 2048));
  f.check_audit();
  f.pages.unisolate(first, first + 2048);
  CHECK_EQ(f.counts().frames, before.frames);
  CHECK(f.pages.alloc(9, kNoWarn));
}

}  // namespace
}  // namespace cadastre
