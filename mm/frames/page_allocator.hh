// Pages: the zones of all nodes, searched in the order of each request's zonelist, with a list of single
// pages a CPU in front.
//
//   alloc(0)  --> this CPU's list --(empty)--> zonelist: node 0 HIGHMEM, NORMAL, DMA, then the next nearest node ...
//   free(p,0) --> this CPU's list --(full)---> the zone's buddy system
//   larger orders ---------------------------> the buddy system at once
//
// Usage at boot, once the linear map is up and memblock's `current_limit` is its end:
//   pages.init(memblock, {.dma_limit = ..., .log = &log});   frames (taken from memblock) and zones for all memory
//   pages.release(memblock);                                 memblock's free ranges become free pages
// then from any CPU:
//   Result<Pfn> page = pages.alloc(0, kZero);                NORMAL: in the linear map
//   Result<Pfn> ram = pages.alloc(9, kHighmem | kMovable | kNoWarn | kNoRetry);
//   pages.free(*page, 0);
// What `alloc` returns is the caller's until `free`, its first frame in state kHyp (kCmaLent when borrowed
// from a CMA area, which only kMovable requests do); `Ownership::give` makes it a guest's. A guest's page is
// cleared when it is freed.
//
// Per-CPU lists have no lock: CPU n's belongs to whoever runs as CPU n, with interrupts masked. (Threads in
// tests: one a CPU number.) Lock order: a booking's, then a zone's; no two zones' are held together.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "mm/base/machine.hh"
#include "mm/frames/alloc_flags.hh"
#include "mm/frames/booking.hh"
#include "mm/frames/frame.hh"
#include "mm/frames/frame_list.hh"
#include "mm/frames/shrinker.hh"
#include "mm/frames/zone.hh"
#include "mm/translation/fault.hh"

namespace cadastre {

// Who last allocated and freed a block: return addresses.
struct FrameHistory {
  const void* allocated_by = nullptr;
  const void* freed_by = nullptr;
};

// How users of movable pages give way. Called with no lock held.
class Migrator {
 public:
  // Moves the contents of the 2^order frames at `from` to `to` and lets their user use those from now on. On
  // success nobody reaches `from` any more; on failure (kBusy: not now; kNotFound: its user gave it up
  // meanwhile) all is as before.
  [[nodiscard]] virtual Result<> migrate(Pfn from, Pfn to, unsigned order) = 0;
  // Makes single pages of a block that is too large to move at once (and calls Ownership::split).
  [[nodiscard]] virtual Result<> split(Pfn block) = 0;

 protected:
  ~Migrator() = default;
};

// The other CPUs, as far as the allocator needs them.
class OtherCpus {
 public:
  // Lets each of them drain its lists, and returns when all have: what they were doing before is over then.
  virtual void drain() = 0;
  // Between two looks at what another CPU keeps for long: does what others ask of this one.
  virtual void wait() = 0;

 protected:
  ~OtherCpus() = default;
};

// Why a range could not be taken.
struct Obstacle {
  Error error = Error::kBusy;
  Pfn past;              // where what is in the way ends
  bool passing = false;  // it may be gone when the other CPUs are done with what they do just now
};

struct PageAllocatorConfig {
  PhysAddr dma_limit{std::uint64_t{1} << 32U};  // 32-bit masters reach memory below this
  NodeDistances distances;
  Log* log = nullptr;
};

// How many frames are what; reserved are those of RAM that the allocator was never given.
struct FrameCounts {
  std::uint32_t frames = 0;
  std::uint32_t free = 0;
  std::uint32_t hyp = 0;
  std::uint32_t guest = 0;
  std::uint32_t shared = 0;
  std::uint32_t cma_idle = 0;
  std::uint32_t cma_lent = 0;
  std::uint32_t pinned = 0;
  std::uint32_t reserved = 0;
  std::uint32_t poisoned = 0;
};

struct AuditFailure {
  Pfn frame;
  std::string_view what;
};

// Where the zones NORMAL and HIGHMEM begin, on each node; at the end of RAM, or above, for one without memory.
struct ZoneEdges {
  Pfn normal;
  Pfn highmem;
};
// Memory from `high_memory` on is out of the linear map's reach, memory from `dma_limit` on out of some DMA master's.
[[nodiscard]] ZoneEdges zone_edges(const Memblock& memblock, Pfn high_memory, PhysAddr dma_limit);

// Everything that does not depend on the machine's type.
class PageAllocatorBase {
 public:
  PageAllocatorBase(const PageAllocatorBase&) = delete;
  PageAllocatorBase& operator=(const PageAllocatorBase&) = delete;

  // Gives all that is free in `memblock` to the zones, and sets aside for CMA areas what it has reserved as kPool; memblock is
  // not used for allocation after. Once.
  void release(const Memblock& memblock);
  // Reserved frames become free: modules that were copied, the boot code. [first, past) is RAM in one zone
  // and was not given before.
  void adopt(Pfn first, Pfn past);
  // The same for what will be a CMA area: whole pageblocks, usable by movable allocations until the area
  // wants them. kInvalid when the edges are not pageblocks', and for frames that were not set aside for one, or are one.
  [[nodiscard]] Result<> adopt_cma(Pfn first, Pfn past);

  // The CPU's memory is nearest to it on `nid`. Before the CPU allocates.
  void set_cpu_node(unsigned cpu, NodeId nid);
  [[nodiscard]] NodeId cpu_node(unsigned cpu) const { return per_cpu_[cpu].nid; }

  // Who makes guests' pages give way; nullptr: nobody, then they stay where they are. Set once, before it is needed.
  void set_migrator(Migrator* migrator) { migrator_ = migrator; }
  // Exactly the frames [first, past): isolates their pageblocks, moves what is movable out of the way, and
  // takes them as single pages in `state` (kHyp or kDmaPinned). kBusy, with all as before but for pages that
  // moved, when something there stays; kInvalid for a range that is empty or not in one zone, or for kHyp
  // where a part is a CMA area's.
  // `own` as for isolate().
  [[nodiscard]] Result<> alloc_contig_range(unsigned cpu, Pfn first, Pfn past, FrameState state,
                                            const Booking* own = nullptr);
  // The same for who looks at many places: asks no other CPU for its pages, and says what is in the way.
  [[nodiscard]] std::expected<void, Obstacle> take_contig_range(unsigned cpu, Pfn first, Pfn past, FrameState state);
  // kCorrupt, reported, and nothing changes, unless all of them are such single pages.
  [[nodiscard]] Result<> free_contig_range(unsigned cpu, Pfn first, Pfn past);
  // Keeps a range of whole pageblocks from being allocated from, and ends that. kBusy when somebody else does that already, and
  // when what is promised to others than `own` needs it.
  [[nodiscard]] Result<> isolate(Pfn first, Pfn past, const Booking* own = nullptr);
  void unisolate(Pfn first, Pfn past);

  // For who takes a large range block by block, in whole pageblocks: whether that may succeed, from a quick look; and a block of
  // pageblock order out of a range that the caller has isolated, when what is movable has moved out. kBusy: something stays, or
  // what is promised to others than `own` needs it.
  [[nodiscard]] bool may_be_emptied(Pfn first, Pfn past);
  [[nodiscard]] Result<> take_isolated_block(unsigned cpu, Pfn first, const Booking* own = nullptr);

  // Keeps a block of the hypervisor's from being freed, and ends that: for who puts it aside. kCorrupt, reported, and nothing
  // changes, for what is not in use with that order, or not kept aside.
  [[nodiscard]] Result<> hold(Pfn block, unsigned order);
  [[nodiscard]] Result<> unhold(Pfn block);
  // Counts what is wrong with a frame, and says it in the log.
  void report(std::string_view what, Pfn pfn);

  // Promises `frames` more of a share, all of them or none (kNoMemory): of what is neither promised nor anybody's above the
  // high watermarks; from the zones nearest to `home`. Tables before RAM, which can be anywhere.
  [[nodiscard]] Result<> book(Booking& booking, Share share, std::uint32_t frames, NodeId home);
  // What is left is everybody's again; what was taken stays its user's.
  void cancel(Booking& booking);
  // How many could be promised now; pages on CPUs' lists are not among them.
  [[nodiscard]] std::uint32_t bookable(Share share) const;
  // 2^order pages of what is left, as PageAllocator::alloc gives them; their contents are undefined. kNoMemory when so many are
  // not left in any one zone or are too scattered there; never for a single page while one is left.
  [[nodiscard]] Result<Pfn> alloc_booked(Booking& booking, Share share, unsigned order, NodeId home);
  // Frees a block as PageAllocator::try_free does; a block that the booking gave is promised again.
  [[nodiscard]] Result<> free_booked(Booking& booking, Share share, Pfn block, unsigned order);
  // So many frames of the share's user were taken otherwise: that many less are left, as far as there are.
  void charge(Booking& booking, Share share, std::uint32_t frames);

  // Gives a CPU's listed pages back to the zones. On that CPU.
  void drain(unsigned cpu);
  // And every other CPU's.
  void drain_all(unsigned cpu);
  // nullptr: nobody can be asked; what is on others' lists is then in the way of ranges.
  void set_other_cpus(OtherCpus* others) { others_ = others; }
  // For who waits for another CPU.
  void wait() const { others_ != nullptr ? others_->wait() : spin_wait(); }
  // Asks shrinkers until each zone is above its high mark, or they have no more: for the idle loop.
  void balance(unsigned cpu);
  // Moves on with every request that finds all its zones below their low marks: a reason to `balance`.
  [[nodiscard]] std::uint32_t pressure() const { return pressure_.load(std::memory_order_relaxed); }
  [[nodiscard]] ShrinkerList& shrinkers() { return shrinkers_; }

  // Debugging, before a second CPU is up. Each sends every request down the slow path.
  void set_poison(bool poison);                             // free pages are filled, and checked when allocated
  void set_history(std::span<FrameHistory> one_per_frame);  // who allocated and freed; empty: off
  void set_fault_injector(FaultInjector* fault);            // nullptr: off

  // Every frame's state against the free lists and counts. While nobody allocates.
  [[nodiscard]] std::expected<FrameCounts, AuditFailure> audit() const;
  void print_zones(Log& log) const;
  void print_buddyinfo(Log& log) const;
  void print_pagetypeinfo(Log& log) const;

  [[nodiscard]] FrameTable& frames() { return frames_; }
  [[nodiscard]] Zone& zone(NodeId nid, ZoneKind kind) { return zones_[nid * kZoneKinds + static_cast<unsigned>(kind)]; }
  [[nodiscard]] Zone& zone_of(FrameIndex index) { return zones_[frames_.section_of(index).zone]; }
  // Free frames of all zones, those on CPUs' lists not counted.
  [[nodiscard]] std::uint32_t free_frames() const;
  // Frees that were refused, and poison found overwritten.
  [[nodiscard]] std::uint32_t bad_frames() const { return bad_frames_.load(std::memory_order_relaxed); }

 protected:
  static constexpr unsigned kListedTypes = FrameTable::kListedTypes;
  static constexpr std::uint32_t kFreshPage =
      FrameWord{.state = FrameState::kHyp, .order = 0, .owner = kHypervisor, .references = 1}.packed();
  static constexpr std::uint32_t kPageAtHand = FrameWord{.state = FrameState::kHyp}.packed();  // in nobody's use
  static constexpr std::uint32_t kCachedPage = FrameWord{.state = FrameState::kCached}.packed();
  static_assert(may_become(FrameState::kCached, FrameState::kHyp) && may_become(FrameState::kHyp, FrameState::kCached));

  // Single pages of one zone and type on one CPU, linked through `next`.
  struct PageList {
    FrameIndex head = kNoFrame;
    std::uint32_t room = 0;  // pages that it still takes
  };
  struct OlderPages {
    FrameIndex head = kNoFrame;
    std::uint32_t count = 0;
  };
  struct alignas(64) PerCpu {
    std::array<PageList, FrameTable::kNoPageList + 1> hot;  // the last one has never room
    std::array<OlderPages, FrameTable::kNoPageList> older;
    std::array<std::uint8_t, kZoneKinds> first_list{};  // of the zonelist for requests up to that kind
    NodeId nid = 0;
  };
  enum class Mark : std::uint8_t { kLow, kMin };

  constexpr PageAllocatorBase() = default;
  ~PageAllocatorBase() = default;

  // What pages hold, through the linear map or kmap.
  virtual void fill(Pfn first, std::uint32_t count, std::byte value) = 0;
  [[nodiscard]] virtual bool is_filled(Pfn first, std::uint32_t count, std::byte value) = 0;

  void init_zones(const Memblock& memblock, Pfn high_memory, const PageAllocatorConfig& config);

  [[nodiscard]] static constexpr ZoneKind highest_zone(AllocFlags flags) {
    if (flags.has(kDma)) return ZoneKind::kDma;
    return flags.has(kHighmem) ? ZoneKind::kHighmem : ZoneKind::kNormal;
  }
  // kNoFrame when the CPU's list is empty. Inline, so that what the flags mean is known at compile time.
  [[nodiscard, gnu::always_inline]] FrameIndex take_listed(unsigned cpu, AllocFlags flags) {
    // The list may be of another node's zone, where this one has none.
    if (flags.has(kCold | kThisNode)) return kNoFrame;
    PerCpu& mine = per_cpu_[cpu];
    PageList& list = mine.hot[mine.first_list[static_cast<unsigned>(highest_zone(flags))] +
                              static_cast<unsigned>(migrate_type(flags))];
    const FrameIndex index = list.head;
    if (index == kNoFrame) [[unlikely]]
      return kNoFrame;
    Frame& frame = frames_[index];
    list = {.head = frame.next, .room = list.room + 1};
    frame.set_packed(kFreshPage);
    return index;
  }
  // Only the ordinary case: a page of the hypervisor's before the first hole, of an ordinary pageblock, and room
  // on the list.
  [[nodiscard, gnu::always_inline]] bool put_listed(unsigned cpu, Pfn page, AllocFlags hint) {
    const FrameIndex index = frames_.contiguous_index_of(page);
    if (index == kNoFrame || hint.has(kCold)) [[unlikely]]
      return false;
    Frame& frame = frames_[index];
    PageList& list = per_cpu_[cpu].hot[frames_.page_list(index)];
    const PageList old = list;
    if (frame.packed() != kFreshPage || old.room == 0) [[unlikely]]
      return false;
    frame.next = old.head;
    frame.set_packed(kCachedPage);
    list = {.head = index, .room = old.room - 1};
    return true;
  }

  [[nodiscard]] Result<Pfn> alloc_slow(unsigned cpu, unsigned order, AllocFlags flags, const void* caller) {
    return alloc_slow(cpu, cpu_node(cpu), order, flags, caller);
  }
  // By this CPU, from its own lists where it has such pages, in the order of that node's zonelist.
  [[nodiscard]] Result<Pfn> alloc_slow(unsigned cpu, NodeId nid, unsigned order, AllocFlags flags, const void* caller);
  [[nodiscard]] Result<> free_slow(unsigned cpu, Pfn block, unsigned order, AllocFlags hint, const void* caller);

  FrameTable frames_;

 private:
  static constexpr std::byte kPoison{0xaa};

  bool checked_ = false;  // poison, history or a fault injector: every request goes the slow way and is looked at

  // Per node and highest kind: zones, the best first.
  struct Zonelist {
    std::array<std::uint8_t, kMaxZones> zones{};
    unsigned count = 0;
    [[nodiscard]] std::span<const std::uint8_t> all() const { return {zones.data(), count}; }
  };

  void build_zonelists();
  void set_list_sizes();
  void update_after_adoption();
  void release_range(FrameIndex first, FrameIndex past);
  void set_aside(const MemblockRegion& reserved);
  [[nodiscard]] FrameIndex alloc_from_zones(unsigned cpu, NodeId nid, unsigned order, AllocFlags flags, Mark mark);
  [[nodiscard]] static FrameIndex block_from_zone(Zone& zone, unsigned order, MigrateType type, AllocFlags flags);
  // A block that is nobody's.
  [[nodiscard]] static FrameIndex take_spare(Zone& zone, unsigned order, MigrateType type, bool may_borrow)
      REQUIRES(zone.lock);
  [[nodiscard]] FrameIndex promised_from_zone(Booking& booking, Share share, unsigned id, unsigned order)
      REQUIRES(booking.lock_);
  [[nodiscard]] FrameIndex take_promised(Booking& booking, Share share, unsigned order, NodeId home,
                                         bool& is_collected);
  [[nodiscard]] FrameIndex take_at_hand(Booking& booking) REQUIRES(booking.lock_);
  void put_back(Booking& booking) REQUIRES(booking.lock_);
  [[nodiscard, gnu::noinline]] Result<Pfn> alloc_booked_slow(Booking& booking, Share share, unsigned order,
                                                             NodeId home);
  // A block out of the free lists becomes its user's.
  [[nodiscard]] Pfn hand_out(FrameIndex block, unsigned order, AllocFlags flags, const void* caller);
  // Whether it may be freed, scrubbed where it was a guest's.
  [[nodiscard]] Result<FrameIndex> check_free(Pfn block, unsigned order, const void* caller);
  // Rare enough to be by itself, so that whoever wants a block does not carry its registers.
  [[nodiscard, gnu::noinline]] FrameIndex page_from_zone(PerCpu& mine, unsigned id, AllocFlags flags);
  [[nodiscard]] FrameIndex take_older(PerCpu& mine, unsigned list, AllocFlags flags) const;
  // Single pages out of a zone, linked through `next`.
  struct PageChain {
    FrameIndex head = kNoFrame;
    std::uint32_t count = 0;
  };
  [[nodiscard]] PageChain take_pages(Zone& zone, std::uint32_t most, MigrateType type, std::uint32_t word)
      REQUIRES(zone.lock);
  // CMA pages do not go on lists: their area wants to find them.
  [[nodiscard]] static bool prefers_cma(const Zone& zone) REQUIRES(zone.lock) {
    return zone.buddy.free_cma_frames() > zone.buddy.free_frames() / 2;
  }
  [[nodiscard]] FrameIndex refill(PageList& list, Zone& zone, MigrateType type, AllocFlags flags) REQUIRES(zone.lock);
  [[nodiscard]] FrameIndex reclaim_and_alloc(unsigned cpu, NodeId nid, unsigned order, AllocFlags flags);
  [[nodiscard]] std::uint32_t deficit(NodeId nid, AllocFlags flags) const;
  void inspect_alloc(FrameIndex block, unsigned order, const void* caller);
  void inspect_free(FrameIndex block, unsigned order, const void* caller);
  [[nodiscard]] Result<> refuse_free(Pfn block, unsigned order);
  void give_back(unsigned cpu, FrameIndex page, AllocFlags hint);
  [[nodiscard]] std::uint32_t batch(unsigned list) const { return batches_[list / kListedTypes]; }
  [[nodiscard]] Zone& zone_of_list(unsigned list) { return zones_[list / kListedTypes]; }
  void drain_chain(unsigned list, FrameIndex head);
  void report_shared_section(NodeId nid, Pfn first, Pfn past);

  [[nodiscard]] Result<FrameIndex> contiguous(Pfn first, Pfn past);
  [[nodiscard]] bool may_take(FrameIndex first, FrameIndex end, FrameState state) const;
  [[nodiscard]] Result<> isolate_pageblocks(FrameIndex first, FrameIndex end, const Booking* own = nullptr);
  void unisolate_pageblocks(FrameIndex first, FrameIndex end);
  struct BlockAt {
    FrameIndex first = kNoFrame;
    FrameWord word;
  };
  [[nodiscard]] BlockAt block_at(FrameIndex index);
  [[nodiscard]] std::expected<void, Obstacle> collect(unsigned cpu, FrameIndex first, FrameIndex end, FrameState state,
                                                      const Booking* own = nullptr);
  [[nodiscard]] std::uint32_t promised_to(const Booking* own, FrameIndex in_zone) const {
    return own == nullptr ? 0 : own->left_in(Share::kRam, frames_.section_of(in_zone).zone);
  }
  [[nodiscard]] std::expected<void, Obstacle> empty_range(unsigned cpu, FrameIndex first, FrameIndex end);
  [[nodiscard]] Result<> move_out(unsigned cpu, FrameIndex block);

  std::array<Zone, kMaxZones> zones_;

 protected:
  std::array<PerCpu, kMaxCpus> per_cpu_;

 private:
  std::array<std::uint8_t, kMaxZones> batches_{};  // pages on a list at most; 0: no lists
  std::array<std::array<Zonelist, kZoneKinds>, kMaxNodes> zonelists_{};
  NodeDistances distances_;
  ShrinkerList shrinkers_;
  Log* log_ = nullptr;
  Migrator* migrator_ = nullptr;
  OtherCpus* others_ = nullptr;
  std::atomic<std::uint32_t> bad_frames_ = 0;
  std::atomic<std::uint32_t> pressure_ = 0;
  bool poison_ = false;
  std::span<FrameHistory> history_;
  FaultInjector* fault_ = nullptr;
};

template <Machine M>
class PageAllocator final : public PageAllocatorBase {
 public:
  explicit constexpr PageAllocator(M& machine) : machine_(machine) {}

  // Makes the frames, in memory from `memblock`, and the zones of `memblock`'s memory; nothing is free yet.
  // Fails as FrameTable::init does, and with kOutOfRange for a node above kMaxNodes.
  [[nodiscard]] Result<> init(Memblock& memblock, const PageAllocatorConfig& config = {}) {
    for (const MemblockRegion& region : memblock.memory().all()) {
      if (region.nid != kNoNode && region.nid >= kMaxNodes) return std::unexpected(Error::kOutOfRange);
    }
    if (const auto made = frames_.init(machine_, memblock); !made) return made;
    init_zones(memblock, machine_.high_memory(), config);
    return {};
  }

  // 2^order pages, aligned to their size, that belong to the caller; their contents are undefined without
  // kZero. kNoMemory when no zone of the zonelist has them, kInvalid for an order above kMaxOrder.
  [[nodiscard, gnu::always_inline]] Result<Pfn> alloc(unsigned order, AllocFlags flags = {}) {
    const FrameIndex listed = order == 0 ? take_listed(machine_.cpu(), flags) : kNoFrame;
    if (listed == kNoFrame) [[unlikely]]
      return alloc_slow(machine_.cpu(), order, flags, __builtin_return_address(0));
    const Pfn page = frames_.pfn_of(listed);
    if (flags.has(kZero)) fill(page, 1, std::byte{0});
    return page;
  }
  // The same for who will use the memory on another CPU, nearest to `nid`: below kMaxNodes.
  [[nodiscard]] Result<Pfn> alloc_near(NodeId nid, unsigned order, AllocFlags flags = {}) {
    if (nid == cpu_node(machine_.cpu())) return alloc(order, flags);
    return alloc_slow(machine_.cpu(), nid, order, flags, __builtin_return_address(0));
  }

  // Gives a block back. A free of what is free, shared, pinned, of another order or no RAM is reported and stops
  // the machine.
  [[gnu::always_inline]] void free(Pfn block, unsigned order, AllocFlags hint = {}) {
    if (order == 0 && put_listed(machine_.cpu(), block, hint)) [[likely]]
      return;
    CHECK(free_slow(machine_.cpu(), block, order, hint, __builtin_return_address(0)));
  }
  // The same, but such a free is reported and answered with kCorrupt, and changes nothing. `hint` may be kCold.
  [[nodiscard]] Result<> try_free(Pfn block, unsigned order, AllocFlags hint = {}) {
    if (order == 0 && put_listed(machine_.cpu(), block, hint)) [[likely]]
      return {};
    return free_slow(machine_.cpu(), block, order, hint, __builtin_return_address(0));
  }

  using PageAllocatorBase::alloc_contig_range;
  [[nodiscard]] Result<> alloc_contig_range(Pfn first, Pfn past, FrameState state, const Booking* own = nullptr) {
    return alloc_contig_range(machine_.cpu(), first, past, state, own);
  }
  using PageAllocatorBase::free_contig_range;
  [[nodiscard]] Result<> free_contig_range(Pfn first, Pfn past) {
    return free_contig_range(machine_.cpu(), first, past);
  }

  [[nodiscard]] M& machine() { return machine_; }

 private:
  // What lies in the linear map in one go, high memory page by page.
  template <class Use>
  bool for_bytes(Pfn first, std::uint32_t count, Use use) {
    const Pfn past = first + count;
    if (past <= machine_.high_memory()) return use(machine_.linear(address_of(first)), count * kPageSize);
    for (Pfn page = first; page < past; page += 1) {
      std::byte* bytes = machine_.kmap(page);
      const bool more = use(bytes, kPageSize);
      machine_.kunmap(bytes);
      if (!more) return false;
    }
    return true;
  }
  void fill(Pfn first, std::uint32_t count, std::byte value) override {
    for_bytes(first, count, [&](std::byte* bytes, std::size_t size) {
      std::memset(bytes, std::to_integer<int>(value), size);
      return true;
    });
  }
  [[nodiscard]] bool is_filled(Pfn first, std::uint32_t count, std::byte value) override {
    return for_bytes(first, count, [&](const std::byte* bytes, std::size_t size) {
      return bytes[0] == value && std::memcmp(bytes, bytes + 1, size - 1) == 0;
    });
  }

  M& machine_;
};

}  // namespace cadastre
