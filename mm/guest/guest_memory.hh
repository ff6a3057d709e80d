// A guest's memory: which frames it has, where they come from and go to. All of the policy is here; a machine supplies what takes
// instructions of its own (GuestMemoryOperations).
//
//        look  (locked)       what does this address need?  nothing: done
//          |
//        prepare              a frame or block from the page allocator, given to the guest, scrubbed in steps;
//          |                  or the copy of a shared page; and the table pages that the mapping will take
//        commit (locked)      still needed? mapped.  Not any more: what was prepared goes back, and look again
//
// So nothing long happens under a guest's lock: no frame is allocated, scrubbed or copied there, and no table. Every step is
// bounded, and between two of them whoever has them done may take interrupts.
//
// A frame of a guest's is clean to the point of coherency before the guest can reach it: it may be read with caches off, by
// another vCPU, or through an uncached mapping [ARMv7 B2.2.6].
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "mm/base/access.hh"
#include "mm/base/address.hh"
#include "mm/base/check.hh"
#include "mm/base/error.hh"
#include "mm/base/spinlock.hh"
#include "mm/frames/ownership.hh"
#include "mm/frames/page_allocator.hh"
#include "mm/guest/sharers.hh"
#include "mm/guest/whole_gib.hh"
#include "mm/translation/stage2.hh"

namespace cadastre {

// What a guest's memory needs from the machine: stage 2's entries, table pages and TLB (TableEnvironment), and these, each for
// low and high memory alike.
template <class O>
concept GuestMemoryOperations = TableEnvironment<O> && requires(O& operations, Pfn page, std::uint32_t count,
                                                                PhysAddr address, std::span<const std::byte> bytes) {
  // Zeroes pages, and cleans and invalidates them to the point of coherency.
  operations.scrub(page, count);
  // copy(to, from): a page's bytes; the same for `to`.
  operations.copy(page, page);
  // Only the cleaning and invalidating.
  operations.clean_pages(page, count);
  // Writes bytes of one page; the same for them.
  operations.write(address, bytes);
};

// Where a guest's RAM was: frames in each zone, and how many of them were lent by CMA areas.
struct RamUse {
  std::array<std::uint32_t, kMaxZones> by_zone{};
  std::uint32_t lent = 0;
};

// Leaves of stage 2 by their level, 1 to 3.
using MappingCounts = std::array<std::uint32_t, kLastLevel + 1>;

// What all guests' memory comes from.
template <Machine M>
struct GuestMemoryHost {
  PageAllocator<M>& pages;
  Ownership& ownership;
  Sharers<M>& sharers;
};

template <GuestMemoryOperations Operations, Machine M>
class BasicGuestMemory {
 public:
  // `number`: the guest's as an owner of frames. `home`: the node of the CPUs that run it. `ram`: its largest leaf is what
  // `populate_some` maps, 1 to 3; faults are answered with at most 2 MiB. `root`: zeroed, Stage2::kRootBytes; stays the
  // caller's.
  // `booking`: what is promised to the guest, which its frames come out of; nullptr: nothing is. Outlives it.
  BasicGuestMemory(const GuestMemoryHost<M>& host, OwnerId number, NodeId home, const RamRange& ram, PhysAddr root,
                   Booking* booking = nullptr)
      : host_(host),
        number_(number),
        home_(home),
        ram_(ram),
        booking_(booking),
        stage2_(tables_, root, stage2_tables(ram.size)) {}
  BasicGuestMemory(const BasicGuestMemory&) = delete;
  BasicGuestMemory& operator=(const BasicGuestMemory&) = delete;

  [[nodiscard]] std::uint64_t size() const { return ram_.size; }
  [[nodiscard]] PhysAddr root() const { return stage2_.table().root(); }
  [[nodiscard]] bool contains(IpaAddr address) const { return ram_.contains(address); }

  // A fault that is being answered, in steps of less than 40,000 instructions. What it has prepared goes back when it ends.
  class Fault;
  // All of it: calls between() between two steps.
  template <class Between>
  [[nodiscard]] Result<FaultAnswer> serve_fault(IpaAddr address, Access access, Between&& between) EXCLUDES(lock_);

  // ---- For a job, in steps as bounded as a fault's; one at a time

  // A step of giving it all of its RAM, before it runs: what is at `done` bytes and after. Adds what was mapped to `counts` and
  // returns how much is done now. A GiB is one mapping where the machine has an aligned one that is free.
  [[nodiscard]] Result<std::uint64_t> populate_some(std::uint64_t done, MappingCounts& counts) EXCLUDES(lock_);
  // A step towards `write` being short: returns how many of the bytes from `address` on are ready. kOutOfRange when not all
  // of it is RAM.
  [[nodiscard]] Result<std::uint64_t> prepare_write_some(IpaAddr address, std::uint64_t size) EXCLUDES(lock_);
  // A step of giving back every frame and table, at or after `from`; adds where they were to `use`. Nobody runs the guest any
  // more. Returns where to go on, nothing at the end.
  [[nodiscard]] std::optional<std::uint64_t> release_some(std::uint64_t from, RamUse& use) EXCLUDES(lock_);

  // ---- At any time

  // A device's registers, which the guest reaches directly; at most two blocks of 2 MiB.
  [[nodiscard]] Result<> map_device(IpaAddr address, PhysAddr physical, std::uint64_t size) EXCLUDES(lock_);
  // Puts bytes into its RAM as if it had always been there: populated, written, and clean to the point of coherency.
  // kOutOfRange when not all of it is RAM.
  [[nodiscard]] Result<> write(IpaAddr address, std::span<const std::byte> bytes) EXCLUDES(lock_);
  // Cleans and invalidates in the caches the next part of at most 512 KiB that is mapped at or after `from`. Returns where to
  // go on, nothing at the end.
  [[nodiscard]] std::optional<std::uint64_t> clean_some(std::uint64_t from) EXCLUDES(lock_);
  // For the idle loop: a bounded step of making large mappings of small ones again. Whether there is more to do.
  bool merge_step() EXCLUDES(lock_);
  // The page at `from` becomes `to`'s at the same address, to be copied by whoever writes to it first; nothing where it is not
  // populated. Locks one guest's memory at a time. kOverlap: `to` has something there; else without a frame or a table for it
  // kNoMemory or kLimit, and then `to` has nothing there.
  [[nodiscard]] Result<> share_page(IpaAddr page, BasicGuestMemory& to) EXCLUDES(lock_);

 protected:
  class TableStock;
  // Stage 2's environment. Its tables come from what was put in stock before the lock was taken.
  class Tables : public Operations {
   public:
    [[nodiscard]] Result<PhysAddr> allocate_table() {
      return stock_ != nullptr ? stock_->take() : Result<PhysAddr>(std::unexpected(Error::kNoMemory));
    }
    void set_stock(TableStock* stock) { stock_ = stock; }

   private:
    TableStock* stock_ = nullptr;
  };
  using Stage2Tables = Stage2<Tables>;

  // The same fault, for who looks at the memory under its lock: it is let go of meanwhile.
  template <class Between>
  [[nodiscard]] Result<FaultAnswer> serve_fault_unlocked(IpaAddr address, Access access,
                                                         Between&& between) NO_THREAD_SAFETY_ANALYSIS {
    lock_.unlock();
    const Result<FaultAnswer> answer = serve_fault(address, access, between);
    lock_.lock();
    return answer;
  }

  mutable Spinlock lock_;
  const GuestMemoryHost<M> host_;
  const OwnerId number_;
  const NodeId home_;
  const RamRange ram_;
  Booking* const booking_;
  Tables tables_;
  Stage2Tables stage2_;

 private:
  using Mapping = typename Stage2Tables::Mapping;
  static constexpr std::uint32_t kScrubPages =
      64;  // a step's: some 14,000 instructions, twice that with short cache lines
  static constexpr std::uint32_t kReleasePages = 48;  // some 650 instructions for one that goes by itself

  [[nodiscard]] static constexpr unsigned order_of(unsigned level) { return level_shift(level) - kPageShift; }

  // The one place where a guest's frames come from, a whole GiB apart, and the one where they go to. kNoMemory.
  [[nodiscard]] Result<Pfn> take_frame(IpaAddr base, unsigned level);
  // `scrubbed`: no guest has written to it, or all of it has been zeroed.
  void give_back(Pfn block, unsigned order, bool scrubbed);

  [[nodiscard]] std::optional<Mapping> mapping_at(IpaAddr address) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    return stage2_.table().query(address);
  }
  // Commits with the tables in `stock`.
  template <class Change>
  auto with_stock(TableStock& stock, Change&& change) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    tables_.set_stock(&stock);
    auto result = change();
    tables_.set_stock(nullptr);
    return result;
  }
  // A step of a job's fault at `address`; true: it is answered.
  [[nodiscard]] Result<bool> step_job(IpaAddr address, Access access, unsigned largest_level);

  [[nodiscard]] Gfn gfn_of(IpaAddr page) const { return frame_of(page); }
  void stop_sharing(Pfn page, Gfn gfn);
  void count_use(const Mapping& mapping, RamUse& use);
  void make_pages(Pfn page);
  bool release_frames();
  [[nodiscard]] Result<std::optional<Pfn>> add_sharer(IpaAddr page, OwnerId other, Sharer*& mine, Sharer*& theirs)
      EXCLUDES(lock_);
  [[nodiscard]] Result<> map_shared(IpaAddr page, Pfn frame) EXCLUDES(lock_);

  std::optional<Fault> job_;
  // What is unmapped already and not free yet, the last of them first.
  struct Unmapped {
    Pfn first;
    std::uint32_t pages = 0;
    Gfn gfn;
  };
  std::array<Unmapped, kReleasePages> unmapped_{};
  unsigned unmapped_count_ = 0;
  std::uint32_t scrubbed_ = 0;  // pages of the block that the next one begins with
};

// Table pages that were taken before the lock. What is left over goes back without it.
template <GuestMemoryOperations Operations, Machine M>
class BasicGuestMemory<Operations, M>::TableStock {
 public:
  explicit TableStock(Operations& operations) : operations_(operations) {}
  TableStock(const TableStock&) = delete;
  TableStock& operator=(const TableStock&) = delete;
  ~TableStock() {
    while (count_ != 0) operations_.free_table(address_of(pages_[--count_]));
  }
  // At least `count`, at most kMost.
  [[nodiscard]] Result<> fill(unsigned count) {
    CHECK(count <= kMost);
    for (; count_ < count; ++count_) {
      const Result<PhysAddr> page = operations_.allocate_table();
      if (!page) return std::unexpected(page.error());
      pages_[count_] = frame_of(*page);
    }
    return {};
  }
  [[nodiscard]] Result<PhysAddr> take() {
    if (count_ == 0) return std::unexpected(Error::kNoMemory);
    return address_of(pages_[--count_]);
  }
  static constexpr unsigned kMost = 4;

 private:
  Operations& operations_;
  std::array<Pfn, kMost> pages_;
  unsigned count_ = 0;
};

template <GuestMemoryOperations Operations, Machine M>
class BasicGuestMemory<Operations, M>::Fault {
 public:
  Fault(BasicGuestMemory& guest, IpaAddr ipa, Access access)
      : Fault(guest, ipa, access, std::max(guest.ram_.largest_level, 2U)) {}
  Fault(BasicGuestMemory& guest, IpaAddr ipa, Access access, unsigned largest_level)
      : memory_(guest), ipa_(ipa), access_(access), largest_level_(largest_level), stock_(guest.tables_) {}
  ~Fault() {
    if (has_prepared()) drop();
  }
  Fault(const Fault&) = delete;
  Fault& operator=(const Fault&) = delete;

  [[nodiscard]] IpaAddr address() const { return ipa_; }

  // kMore: call again. kNoMemory: there is no frame or table; kLimit: the guest's budget of tables is used up; kOutOfRange: it
  // is not RAM.
  [[nodiscard]] Result<FaultAnswer> step() {
    switch (stage_) {
      case Stage::kLook:
        return look();
      case Stage::kGather:
        return gather();
      case Stage::kScrub:
        return scrub();
    }
    return FaultAnswer::kMore;
  }

 private:
  enum class Stage : std::uint8_t { kLook, kGather, kScrub };
  using What = FaultNeeds::What;

  [[nodiscard]] Result<FaultAnswer> look();
  [[nodiscard]] Result<> find_needs();
  [[nodiscard, gnu::noinline]] Result<Sharer*> claim_or_hold();
  [[nodiscard]] Result<FaultAnswer> prepare();
  [[nodiscard, gnu::noinline]] Result<FaultAnswer> gather();
  [[nodiscard]] Result<FaultAnswer> scrub();
  [[nodiscard]] Result<FaultAnswer> commit();
  // Something is missing. Somebody else may have had it, for the same address: look once more.
  [[nodiscard]] Result<FaultAnswer> fail(Error error) {
    drop();
    if (has_failed_) return std::unexpected(error);
    has_failed_ = true;
    return FaultAnswer::kMore;
  }
  [[nodiscard]] Pfn shared() const { return frame_of(needs_.shared); }
  [[nodiscard]] bool has_prepared() const { return has_frame_ || holds_shared_ || gib_.has_value(); }
  // Gives back what was prepared.
  [[gnu::noinline]] void drop();

  BasicGuestMemory& memory_;
  const IpaAddr ipa_;
  const Access access_;
  Stage stage_ = Stage::kLook;
  bool may_split_ = true;
  bool has_failed_ = false;
  bool has_frame_ = false;
  bool holds_shared_ = false;
  unsigned largest_level_;
  FaultNeeds needs_;
  Pfn frame_;
  std::uint32_t scrubbed_ = 0;  // pages
  TableStock stock_;
  std::optional<WholeGib<Operations, M>> gib_;
};

}  // namespace cadastre

#include "mm/guest/guest_memory_fault.hh"    // IWYU pragma: export
#include "mm/guest/guest_memory_release.hh"  // IWYU pragma: export
