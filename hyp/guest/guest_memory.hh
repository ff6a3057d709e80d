// A guest's memory: its RAM, populated as it is touched, and the stage 2 that leads to it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "arch/armv7/table_operations.hh"
#include "hyp/guest/guest_map.hh"
#include "hyp/guest/guest_ram.hh"
#include "hyp/guest/guest_view.hh"
#include "mm/base/address.hh"
#include "mm/base/error.hh"
#include "mm/base/spinlock.hh"
#include "mm/frames/booking.hh"
#include "mm/frames/frame_state.hh"
#include "mm/frames/zone.hh"
#include "mm/translation/sctlr.hh"
#include "mm/translation/stage2.hh"
#include "mm/translation/vmid.hh"

namespace cadastre {

// Where a guest's tables and frames come from (mm/translation/page_table.hh, mm/translation/stage2.hh): the page allocator, with the guest as the
// frames' owner.
class GuestEnvironment : public arch::TableOperations {
 public:
  // `booking`: what is promised to the guest; nullptr: nothing is.
  GuestEnvironment(OwnerId owner, NodeId home, Booking* booking = nullptr)
      : owner_(owner), home_(home), booking_(booking) {}

  [[nodiscard]] Result<PhysAddr> allocate_table() const;
  void free_table(PhysAddr table) const;
  [[nodiscard]] static Entry* table_at(PhysAddr table);
  static void dsb() { arch::dsb_ish(); }
  // ARMv7 has no invalidation by IPA: all of this guest's translations, on all CPUs [ARMv7 B3.10.6].
  void invalidate(std::uint64_t first, std::uint64_t size) const;

  [[nodiscard]] Result<PhysAddr> allocate_frame(IpaAddr ipa, unsigned level) const;
  void free_frame(PhysAddr frame, unsigned level) const;
  [[nodiscard]] Result<PhysAddr> private_copy(IpaAddr ipa, PhysAddr frame) const;
  static void drop_shared(PhysAddr frame);

  // Whether a frame's zeroes must be in memory, and out of the caches, before the guest has it: its own caches are off, or
  // nobody knows.
  void set_clean_new(bool clean) { clean_new_ = clean; }

  [[nodiscard]] OwnerId owner() const { return owner_; }
  [[nodiscard]] Vmid& vmid() { return vmid_; }

 private:
  [[nodiscard]] Result<PhysAddr> allocate_gib(IpaAddr ipa) const;
  // 2^order zeroed pages: of what is promised, or of what is there for everybody.
  [[nodiscard]] Result<Pfn> take_block(unsigned order) const;
  void give_back(Pfn block, unsigned order) const;

  const OwnerId owner_;
  const NodeId home_;
  Booking* const booking_;
  bool clean_new_ = true;
  Vmid vmid_;
};

// Where a guest's RAM was: frames in each zone, and how many of them were lent by CMA areas.
struct RamUse {
  std::array<std::uint32_t, kMaxZones> by_zone{};
  std::uint32_t lent = 0;
};

// Leaves of stage 2 by their level, 1 to 3.
using MappingCounts = std::array<std::uint32_t, kLastLevel + 1>;

// Whether what a guest has not touched yet becomes RAM when it is looked at.
enum class Populate : bool { kNo, kYes };

class GuestMemory {
 public:
  // `size` bytes of RAM at guest_map::kRam, in mappings of at most level_size(largest_level); 1 for what populate() maps
  // only. `home`: the node of the CPUs that run it. `root`: zeroed, Stage2::kRootBytes; stays the caller's.
  // `booking` outlives it.
  GuestMemory(OwnerId owner, NodeId home, Booking& booking, std::uint64_t size, unsigned largest_level, PhysAddr root);
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  [[nodiscard]] std::uint64_t size() const { return ram_.size; }
  [[nodiscard]] PhysAddr root() const { return stage2_.table().root(); }
  [[nodiscard]] bool contains(IpaAddr address) const { return ram_.contains(address); }

  // Answers the guest's fault at an address of its RAM.
  [[nodiscard]] Result<FaultAnswer> serve_fault(IpaAddr address, Access access) EXCLUDES(lock_);
  // A step of giving it all of its RAM, before it runs: what is at `done` bytes and after. Adds what was mapped to `counts` and
  // returns how much is done now. A GiB is one mapping where the machine has an aligned one that is free.
  [[nodiscard]] Result<std::uint64_t> populate_some(std::uint64_t done, MappingCounts& counts) EXCLUDES(lock_);
  // A device's registers, which the guest reaches directly.
  [[nodiscard]] Result<> map_device(IpaAddr address, PhysAddr physical, std::uint64_t size) EXCLUDES(lock_);
  // Puts bytes into its RAM as if it had always been there: populated, written, and clean to the point of coherency for a
  // guest whose caches are off. kOutOfRange when not all of it is RAM.
  [[nodiscard]] Result<> write(IpaAddr address, std::span<const std::byte> bytes) EXCLUDES(lock_);
  // Cleans and invalidates in the caches the next part of at most 2 MiB that is mapped at or after `from`. Returns where to go
  // on, nothing at the end.
  [[nodiscard]] std::optional<std::uint64_t> clean_some(std::uint64_t from) EXCLUDES(lock_);
  // For the idle loop: a bounded step of making large mappings of small ones again. Whether there is more to do.
  bool merge_step() EXCLUDES(lock_);
  // f(GuestView): the guest's memory as it is, for as long as `f` runs. For a GuestWalk or a few; populates nothing.
  template <class F>
  auto with_view(F&& f) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    return f(GuestView(stage2_.table()));
  }
  // f(GuestRamView&): the same for copies by virtual address with these registers, of little: nothing of a device happens in
  // `f`, whose locks are outer ones.
  template <class F>
  auto with_ram(const GuestMmu& mmu, Populate populate, F&& f) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    const bool past_caches = sctlr::caches_off(mmu.sctlr);
    environment_.set_clean_new(past_caches);
    GuestRamView<Tables> view(stage2_, populate == Populate::kYes ? &ram_ : nullptr, past_caches);
    return f(view);
  }
  // A step of giving back every frame and table, at or after `from`; adds where they were to `use`. Nobody runs the guest any
  // more. Returns where to go on, nothing at the end.
  [[nodiscard]] std::optional<std::uint64_t> release_some(std::uint64_t from, RamUse& use) EXCLUDES(lock_);

  // The guest is about to run on this CPU: VTTBR's value.
  [[nodiscard]] std::uint64_t activate();

 private:
  using Tables = Stage2<GuestEnvironment>;

  Spinlock lock_;
  GuestEnvironment environment_;
  const unsigned largest_level_;
  RamRange ram_;
  Tables stage2_;
};

}  // namespace cadastre
