#include "mm/guest/guest_memory.hh"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "mm/frames/shrinker.hh"
#include "tests/model/guest_driver.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

using Operations = model::FakeGuestOperations;
using Memory = model::FakeGuestMemory;

constexpr IpaAddr kRam{0x4000'0000};

struct Host : PageFixture {
  explicit Host(std::uint64_t size = 64 * kMiB) : Host({{.base = kGiB, .size = size}}, Options()) {}
  Host(const std::vector<FakeBank>& banks, const Options& options) : PageFixture(banks, options) {
    Operations::pages = &pages;
    Operations::scrubbed_pages = 0;
    Operations::longest_scrub = 0;
    REQUIRE(slabs.init());
    REQUIRE(sharers.init());
  }
  ~Host() {
    Operations::pages = nullptr;
    Operations::keeps_contents = false;
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  Frame& frame(PhysAddr address) { return pages.frames()[pages.frames().index_of(frame_of(address))]; }
  std::byte& byte(PhysAddr address) { return *machine.bytes_at(address); }

  Ownership ownership{pages.frames()};
  SlabAllocator<FakeMachine> slabs{pages};
  Sharers<FakeMachine> sharers{pages.frames(), ownership, slabs};
};

// A guest with its root, which ends as it should.
struct Guest {
  Guest(Host& of, OwnerId number, std::uint64_t size, unsigned largest_level = 2)
      : host(of),
        root(*of.pages.alloc(1, kZero)),
        memory({of.pages, of.ownership, of.sharers}, number, NodeId{0}, {kRam, size, largest_level}, address_of(root)) {
  }
  ~Guest() {
    if (!ended) end();
    host.pages.free(root, 1);
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;

  RamUse end() {
    RamUse use;
    ended = true;
    for (std::optional<std::uint64_t> at = 0; at; at = memory.release_some(*at, use)) ++steps;
    return use;
  }
  void fault(std::uint64_t offset, Access access) {
    const auto answer = memory.serve_fault(kRam + offset, access, [] {});
    REQUIRE(answer);
    REQUIRE_EQ(*answer, FaultAnswer::kRetry);
  }
  auto at(std::uint64_t offset) { return memory.stage2().table().query(kRam + offset).value_or(Mapping()); }
  using Mapping = cadastre::Mapping<Stage2Attributes>;

  Host& host;
  Pfn root;
  Memory memory;
  bool ended = false;
  unsigned steps = 0;
};

TEST_CASE("guest memory: a block is scrubbed once, in parts, and is the guest's from its first touch on") {
  Host host;
  std::vector<Pfn> left;  // full of what somebody wrote
  while (const auto block = host.pages.alloc(kPageblockOrder, kHighmem | kMovable | kNoWarn)) left.push_back(*block);
  for (const Pfn block : left) {
    std::memset(&host.byte(address_of(block)), 0xee, kBlockSize);
    host.pages.free(block, kPageblockOrder);
  }
  Guest guest(host, 3, 16 * kMiB);
  unsigned pauses = 0;
  const auto answer = guest.memory.serve_fault(kRam + 0x12345, Access::kWrite, [&] { ++pauses; });
  REQUIRE(answer);
  CHECK_EQ(guest.at(0).level, 2);
  CHECK_EQ(Operations::scrubbed_pages, 512);
  CHECK_EQ(Operations::longest_scrub, 64);
  CHECK_GE(pauses, 8);
  CHECK(host.is_zero(frame_of(guest.at(0).address), 9));
  CHECK_EQ(host.frame(guest.at(0).address).owner(), 3);
  CHECK_EQ(host.frame(guest.at(0).address).gfn(), frame_of(kRam));
}

TEST_CASE(
    "guest memory: what a guest wrote is scrubbed in parts before its frames are free, and not by the allocator "
    "again") {
  Host host;
  const std::uint32_t before = host.counts().free;
  {
    Guest guest(host, 1, 8 * kMiB);
    guest.fault(0, Access::kWrite);
    const PhysAddr block = guest.at(0).address;
    std::memset(&host.byte(block), 0x5a, kBlockSize);
    Operations::longest_scrub = 0;
    const RamUse use = guest.end();
    CHECK_EQ(use.by_zone[static_cast<std::size_t>(ZoneKind::kDma)], 512);
    CHECK_EQ(Operations::scrubbed_pages, 2 * 512);
    CHECK_EQ(Operations::longest_scrub, 48);
    CHECK_GE(guest.steps, 8);
    CHECK(host.is_zero(frame_of(block), 9));
  }
  CHECK_GE(host.counts().free + 4, before);
}

TEST_CASE("guest memory: of two vCPUs that fault on one block, one gets it mapped and the other's goes back") {
  Host host;
  Guest guest(host, 1, 8 * kMiB);
  Memory::Fault slow(guest.memory, kRam + 5, Access::kRead);
  for (unsigned i = 0; i < 4; ++i) CHECK_EQ(*slow.step(), FaultAnswer::kMore);
  CHECK_EQ(host.counts().guest, 512);
  guest.fault(kPageSize, Access::kWrite);
  const PhysAddr mapped = guest.at(0).address;
  CHECK_EQ(host.counts().guest, 1024);
  for (;;) {
    const auto answer = slow.step();
    REQUIRE(answer);
    if (*answer == FaultAnswer::kRetry) break;
  }
  CHECK_EQ(guest.at(0).address, mapped);
  CHECK_EQ(host.counts().guest, 512);
}

TEST_CASE("guest memory: a fault that is given up gives back what it had prepared") {
  Host host;
  Guest guest(host, 1, 8 * kMiB);
  {
    Memory::Fault fault(guest.memory, kRam, Access::kRead);
    for (unsigned i = 0; i < 5; ++i) CHECK_EQ(*fault.step(), FaultAnswer::kMore);
    CHECK_EQ(host.counts().guest, 512);
  }
  CHECK_EQ(host.counts().guest, 0);
  CHECK_FALSE(guest.memory.stage2().table().query(kRam));
}

// Counts how often it is asked.
struct Asked final : Shrinker {
  [[nodiscard]] std::string_view name() const override { return "asked"; }
  [[nodiscard]] std::uint32_t count() override { return 1000; }
  std::uint32_t scan(std::uint32_t) override {
    ++times;
    return 0;
  }
  unsigned times = 0;
};

TEST_CASE("guest memory: nobody is made to give up memory in earnest for a block of 2 MiB") {
  Host host(16 * kMiB);
  // Every block has a page in use.
  std::vector<Pfn> blocks;
  while (const auto block = host.pages.alloc(kPageblockOrder, kNoWarn)) blocks.push_back(*block);
  for (const Pfn block : blocks) {
    REQUIRE(host.ownership.split(block, 0));
    for (std::uint32_t i = 1; i < kPagesPerBlock; ++i) host.pages.free(block + i, 0);
  }
  Guest guest(host, 1, 8 * kMiB);
  Asked asked;
  host.pages.shrinkers().add(asked);
  guest.fault(0, Access::kWrite);
  CHECK_EQ(guest.at(0).level, 3);
  CHECK_LE(asked.times, 1);
  host.pages.shrinkers().remove(asked);
}

TEST_CASE("guest memory: when any request fails, a fault fails without a trace or is served with less") {
  for (unsigned nth = 0;; ++nth) {
    Host host;
    Guest guest(host, 1, 8 * kMiB);
    FaultInjector failing;
    host.pages.set_fault_injector(&failing);
    failing.arm(nth);
    const auto answer = guest.memory.serve_fault(kRam, Access::kWrite, [] {});
    const bool is_over = failing.attempts() <= nth;
    failing.disarm();
    // It tries again at once, and this time it works.
    REQUIRE(answer);
    host.check_audit();
    CHECK_EQ(host.counts().guest, guest.at(0).size() / kPageSize);
    host.pages.set_fault_injector(nullptr);
    if (is_over) break;
    REQUIRE_LT(nth, 10);
  }
}

TEST_CASE("guest memory: a GiB for an eager guest is one mapping, in small steps, and never a CMA area's") {
  for (const bool has_area : {false, true}) {
    Host host({{.base = kGiB, .size = 2 * kGiB + 64 * kMiB}},
              {.reserve_base = 2 * kGiB + 512 * kMiB, .reserve_size = 4 * kMiB});
    Operations::keeps_contents = true;
    const Pfn area = frame_of(PhysAddr(2 * kGiB + 512 * kMiB));
    if (has_area) REQUIRE(host.pages.adopt_cma(area, area + 1024));
    if (!has_area) host.pages.adopt(area, area + 1024);
    Guest guest(host, 1, kGiB, 1);
    MappingCounts counts{};
    const std::uint32_t in_area = host.counts().cma_idle;
    for (std::uint64_t done = 0; done < kGiB;) {
      const auto step = guest.memory.populate_some(done, counts);
      REQUIRE(step);
      done = *step;
    }
    CHECK_EQ(counts[1], 1);
    CHECK_EQ(guest.at(0).address, PhysAddr(has_area ? kGiB : 2 * kGiB));
    CHECK_EQ(Operations::longest_scrub, 64);
    CHECK_EQ(Operations::scrubbed_pages, 1U << 18U);
    CHECK_EQ(host.counts().cma_idle, in_area);
    guest.end();
    CHECK_EQ(host.counts().guest, 0);
  }
}

TEST_CASE("guest memory: a GiB that is in use somewhere is left as it was, and blocks of 2 MiB do") {
  Host host({{.base = kGiB, .size = kGiB + 64 * kMiB}}, Host::Options());
  Operations::keeps_contents = true;
  const Pfn used = frame_of(PhysAddr(kGiB + 700 * kMiB));
  REQUIRE(host.pages.alloc_contig_range(used, used + 1, FrameState::kHyp));
  Guest guest(host, 1, kGiB, 1);
  MappingCounts counts{};
  for (std::uint64_t done = 0; done < 64 * kMiB;) {
    const auto step = guest.memory.populate_some(done, counts);
    REQUIRE(step);
    done = *step;
  }
  CHECK_EQ(counts[1], 0);
  CHECK_EQ(counts[2], 32);
  host.check_audit();
  guest.end();
}

TEST_CASE(
    "guest memory: what the hypervisor writes is there, over blocks and pages, when its place was made ready in "
    "steps") {
  Host host;
  Guest guest(host, 1, 8 * kMiB);
  std::vector<std::byte> bytes(3 * kPageSize, std::byte{0x77});
  const IpaAddr target = kRam + (kBlockSize - kPageSize - 100);
  unsigned steps = 0;
  for (;; ++steps) {
    const auto ready = guest.memory.prepare_write_some(target, bytes.size());
    REQUIRE(ready);
    if (*ready == bytes.size()) break;
  }
  CHECK_GE(steps, 16);  // two blocks
  Operations::scrubbed_pages = 0;
  REQUIRE(guest.memory.write(target, bytes));
  CHECK_EQ(Operations::scrubbed_pages, 0);
  CHECK_EQ(host.byte(guest.at(kBlockSize - kPageSize - 100).address), std::byte{0x77});
  CHECK_EQ(host.byte(guest.at(kBlockSize + kPageSize).address), std::byte{0x77});
  CHECK_EQ(guest.memory.write(kRam + (8 * kMiB - 1), bytes).error(), Error::kOutOfRange);
  CHECK_EQ(guest.memory.prepare_write_some(kRam + (8 * kMiB - 1), 2).error(), Error::kOutOfRange);
}

// ---- Sharing

std::vector<std::pair<OwnerId, Gfn>> users(Host& host, PhysAddr page) {
  std::vector<std::pair<OwnerId, Gfn>> all;
  host.sharers.for_each(frame_of(page), [&](OwnerId guest, Gfn gfn) { all.emplace_back(guest, gfn); });
  std::ranges::sort(all);
  return all;
}

TEST_CASE(
    "sharing: all who map a page are found from its frame, a writer gets a copy, and the last gets the page itself") {
  Host host;
  Guest a(host, 1, 8 * kMiB);
  Guest b(host, 2, 8 * kMiB);
  Guest c(host, 3, 8 * kMiB);
  a.fault(kPageSize, Access::kWrite);
  host.byte(a.at(kPageSize).address) = std::byte{42};
  REQUIRE(a.memory.share_page(kRam + kPageSize, b.memory));
  REQUIRE(b.memory.share_page(kRam + kPageSize, c.memory));
  const PhysAddr page = a.at(kPageSize).address;
  CHECK_EQ(b.at(kPageSize).address, page);
  CHECK_EQ(c.at(kPageSize).address, page);
  const Gfn gfn = frame_of(kRam + kPageSize);
  CHECK(users(host, page) == std::vector<std::pair<OwnerId, Gfn>>{{1, gfn}, {2, gfn}, {3, gfn}});
  CHECK_EQ(host.counts().shared, 1);

  b.fault(kPageSize, Access::kWrite);
  CHECK_NE(b.at(kPageSize).address, page);
  CHECK(b.at(kPageSize).attributes.writable());
  CHECK_EQ(host.byte(b.at(kPageSize).address), std::byte{42});
  CHECK_EQ(host.frame(b.at(kPageSize).address).owner(), 2);
  CHECK(users(host, page) == std::vector<std::pair<OwnerId, Gfn>>{{1, gfn}, {3, gfn}});

  a.end();
  CHECK(users(host, page) == std::vector<std::pair<OwnerId, Gfn>>{{3, gfn}});
  c.fault(kPageSize, Access::kWrite);
  CHECK_EQ(c.at(kPageSize).address, page);
  CHECK(c.at(kPageSize).attributes == Stage2Attributes::ram());
  CHECK_EQ(host.frame(page).state(), FrameState::kGuest);
  CHECK_EQ(host.frame(page).owner(), 3);
  CHECK_EQ(host.frame(page).gfn(), gfn);
  CHECK_EQ(host.byte(page), std::byte{42});
}

TEST_CASE("sharing: guests end in any order, and a shared page is scrubbed and free with the last of them") {
  std::array<unsigned, 3> order{0, 1, 2};
  do {
    Host host;
    std::array<std::unique_ptr<Guest>, 3> guests;
    for (unsigned i = 0; i < 3; ++i) guests[i] = std::make_unique<Guest>(host, static_cast<OwnerId>(i + 1), 8 * kMiB);
    guests[0]->fault(0, Access::kWrite);
    host.byte(guests[0]->at(0).address) = std::byte{42};
    REQUIRE(guests[0]->memory.share_page(kRam, guests[1]->memory));
    REQUIRE(guests[0]->memory.share_page(kRam, guests[2]->memory));
    const PhysAddr page = guests[0]->at(0).address;
    for (unsigned i = 0; i < 3; ++i) {
      CHECK_EQ(host.byte(page), std::byte{42});
      guests[order[i]]->end();
      CHECK_EQ(host.counts().shared, i < 2 ? 1 : 0);
    }
    CHECK_EQ(host.counts().guest, 0);
    CHECK(host.is_zero(frame_of(page), 0));
  } while (std::ranges::next_permutation(order).found);
}

TEST_CASE("sharing: a page that is being copied keeps its contents though all others let go of it") {
  Host host;
  Guest a(host, 1, 8 * kMiB);
  Guest b(host, 2, 8 * kMiB);
  a.fault(0, Access::kWrite);
  REQUIRE(a.memory.share_page(kRam, b.memory));
  const PhysAddr page = a.at(0).address;
  REQUIRE(host.sharers.hold(frame_of(page)));  // as who copies it does
  b.end();
  a.fault(0, Access::kWrite);  // not its own: somebody reads it
  CHECK_NE(a.at(0).address, page);
  CHECK_EQ(host.frame(page).state(), FrameState::kGuestShared);
  CHECK(host.sharers.let_go(frame_of(page), 2, frame_of(kRam)));
  host.pages.free(frame_of(page), 0);
  host.check_audit();
}

TEST_CASE("sharing: nothing is shared over what is there, of what is not there, or outside of RAM") {
  Host host;
  Guest a(host, 1, 8 * kMiB);
  Guest b(host, 2, 8 * kMiB);
  REQUIRE(a.memory.share_page(kRam, b.memory));  // neither has touched it: both read zeroes
  CHECK_FALSE(b.memory.stage2().table().query(kRam));
  a.fault(0, Access::kWrite);
  b.fault(0, Access::kWrite);
  CHECK_EQ(a.memory.share_page(kRam, b.memory).error(), Error::kOverlap);
  CHECK_EQ(a.memory.share_page(kRam + 8 * kMiB, b.memory).error(), Error::kOutOfRange);
  CHECK(a.at(0).attributes.writable());
  host.check_audit();
}

TEST_CASE("sharing: when any request fails, the page is shared or is not, and is freed with its users in any case") {
  for (unsigned nth = 0;; ++nth) {
    Host host;
    Guest a(host, 1, 8 * kMiB);
    Guest b(host, 2, 8 * kMiB);
    a.fault(0, Access::kWrite);
    FaultInjector failing;
    host.pages.set_fault_injector(&failing);
    failing.arm(nth);
    const Result<> shared = a.memory.share_page(kRam, b.memory);
    const bool is_over = failing.attempts() <= nth;
    failing.disarm();
    CHECK_EQ(shared.has_value(), b.memory.stage2().table().query(kRam).has_value());
    a.fault(0, Access::kWrite);
    CHECK(a.at(0).attributes.writable());
    host.pages.set_fault_injector(nullptr);
    a.end();
    b.end();
    CHECK_EQ(host.counts().guest + host.counts().shared, 0);
    if (is_over) break;
    REQUIRE_LT(nth, 20);
  }
}

}  // namespace
}  // namespace cadastre
