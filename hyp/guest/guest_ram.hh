// A guest's RAM for copies by virtual address (mm/guest/guest_copy.hh): what GuestView is for walks, with bytes, and populated as
// by the guest's own accesses.
#pragma once

#include <cstddef>
#include <span>

#include "hyp/guest/guest_view.hh"
#include "mm/base/access.hh"
#include "mm/guest/guest_copy.hh"
#include "mm/translation/stage2.hh"

namespace cadastre {

struct Vcpu;

// Bytes of one page of RAM. `past_caches`: the guest's own caches are off, so ours must not be in between.
void read_ram(PhysAddr physical, std::span<std::byte> to, bool past_caches);
void write_ram(PhysAddr physical, std::span<const std::byte> from, bool past_caches);

// GuestRam over the stage 2 `Tables`, whose lock the caller holds (GuestMemory::with_ram).
template <class Tables>
class GuestRamView : public GuestView<typename Tables::Table> {
 public:
  // `populate`: null, or what becomes RAM when it is looked at.
  GuestRamView(Tables& stage2, const RamRange* populate, bool past_caches)
      : GuestView<typename Tables::Table>(stage2.table()),
        stage2_(stage2),
        populate_(populate),
        past_caches_(past_caches) {}

  [[nodiscard]] bool serve_fault(IpaAddr ipa, Access access) {
    if (populate_ == nullptr || !populate_->contains(ipa)) return false;
    const Result<FaultAnswer> answer = stage2_.serve_fault(ipa, access, *populate_);
    return answer && *answer == FaultAnswer::kRetry;
  }
  void read(PhysAddr physical, std::span<std::byte> to) const { read_ram(physical, to, past_caches_); }
  void write(PhysAddr physical, std::span<const std::byte> from) { write_ram(physical, from, past_caches_); }

 private:
  Tables& stage2_;
  const RamRange* populate_;
  const bool past_caches_;
};

// As the loaded vCPU itself would. A page at a time: a guest's memory is not locked for longer.
[[nodiscard]] CopyResult copy_from_guest(Vcpu& vcpu, GuestVirtAddr address, std::span<std::byte> to, Access access,
                                         Privilege privilege);
[[nodiscard]] CopyResult copy_to_guest(Vcpu& vcpu, GuestVirtAddr address, std::span<const std::byte> from,
                                       Privilege privilege);

}  // namespace cadastre
