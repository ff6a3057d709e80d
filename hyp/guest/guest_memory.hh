// A guest's memory on this machine: what mm/guest/guest_memory.hh needs of it, and which VMID the guest has.
#pragma once

#include <cstdint>
#include <span>

#include "arch/armv7/machine.hh"
#include "arch/armv7/table_operations.hh"
#include "hyp/core/memory.hh"
#include "hyp/guest/guest_map.hh"
#include "hyp/guest/guest_ram.hh"
#include "hyp/guest/guest_view.hh"
#include "mm/base/address.hh"
#include "mm/base/error.hh"
#include "mm/frames/booking.hh"
#include "mm/guest/guest_memory.hh"
#include "mm/translation/sctlr.hh"
#include "mm/translation/vmid.hh"

namespace cadastre {

// GuestMemoryOperations: of one guest, whose VMID it has.
class GuestOperations : public arch::TableOperations {
 public:
  // From now on tables come out of this booking, near `home`, and go back into it.
  void use_booking(Booking& booking, NodeId home) {
    booking_ = &booking;
    home_ = home;
  }

  [[nodiscard]] Result<PhysAddr> allocate_table() const;
  void free_table(PhysAddr table) const;
  [[nodiscard]] static Entry* table_at(PhysAddr table);
  static void dsb() { arch::dsb_ish(); }
  // ARMv7 has no invalidation by IPA: all of this guest's translations, on all CPUs [ARMv7 B3.10.6].
  void invalidate(std::uint64_t first, std::uint64_t size) const;

  static void scrub(Pfn first, std::uint32_t count);
  static void copy(Pfn to, Pfn from);
  static void clean_pages(Pfn first, std::uint32_t count);
  static void write(PhysAddr to, std::span<const std::byte> bytes);

  [[nodiscard]] Vmid& vmid() { return vmid_; }

 private:
  Booking* booking_ = nullptr;
  NodeId home_ = 0;
  Vmid vmid_;
};

// Whether what a guest has not touched yet becomes RAM when it is looked at.
enum class Populate : bool { kNo, kYes };

class GuestMemory : public BasicGuestMemory<GuestOperations, arch::ArmMachine> {
 public:
  // `size` bytes of RAM at guest_map::kRam, in mappings of at most level_size(largest_level); 1 for what populate_some() maps
  // only. `home`: the node of the CPUs that run it. `root`: zeroed, Stage2::kRootBytes; stays the caller's.
  // `booking` outlives it.
  GuestMemory(OwnerId owner, NodeId home, Booking& booking, std::uint64_t size, unsigned largest_level, PhysAddr root);

  // f(GuestView): the guest's memory as it is, for as long as `f` runs. For a GuestWalk or a few; populates nothing.
  template <class F>
  auto with_view(F&& f) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    return f(GuestView(stage2_.table()));
  }
  // f(view): the same for copies by virtual address with these registers, of little: nothing of a device happens in `f`,
  // whose locks are outer ones. A fault that is served on the way lets go of the memory meanwhile and calls between() between
  // its steps.
  template <class Between, class F>
  auto with_ram(const GuestMmu& mmu, Populate populate, Between&& between, F&& f) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    const auto serve = [&](IpaAddr ipa, Access access) {
      if (populate == Populate::kNo || !contains(ipa)) return false;
      const Result<FaultAnswer> answer = serve_fault_unlocked(ipa, access, between);
      return answer && *answer == FaultAnswer::kRetry;
    };
    GuestRamView view(stage2_.table(), serve, sctlr::caches_off(mmu.sctlr));
    return f(view);
  }

  // The guest is about to run on this CPU: VTTBR's value.
  [[nodiscard]] std::uint64_t activate();
};

}  // namespace cadastre
