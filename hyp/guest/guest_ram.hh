// A guest's RAM for copies by virtual address (mm/guest/guest_copy.hh): what GuestView is for walks, with bytes, and populated as
// by the guest's own accesses.
#pragma once

#include <cstddef>
#include <span>

#include "hyp/guest/guest_view.hh"
#include "mm/base/access.hh"
#include "mm/guest/guest_copy.hh"

namespace cadastre {

struct Vcpu;

// Bytes of one page of RAM. `past_caches`: the guest's own caches are off, so ours must not be in between.
void read_ram(PhysAddr physical, std::span<std::byte> to, bool past_caches);
void write_ram(PhysAddr physical, std::span<const std::byte> from, bool past_caches);

// GuestRam over the stage 2 `Table`, whose lock the caller holds (GuestMemory::with_ram). serve(ipa, access) answers a stage-2
// fault; true: look again.
template <class Table, class Serve>
class GuestRamView : public GuestView<Table> {
 public:
  GuestRamView(const Table& table, const Serve& serve, bool past_caches)
      : GuestView<Table>(table), serve_(serve), past_caches_(past_caches) {}

  [[nodiscard]] bool serve_fault(IpaAddr ipa, Access access) { return serve_(ipa, access); }
  void read(PhysAddr physical, std::span<std::byte> to) const { read_ram(physical, to, past_caches_); }
  void write(PhysAddr physical, std::span<const std::byte> from) { write_ram(physical, from, past_caches_); }

 private:
  const Serve& serve_;
  const bool past_caches_;
};

// As the loaded vCPU itself would. A page at a time: a guest's memory is not locked for longer.
[[nodiscard]] CopyResult copy_from_guest(Vcpu& vcpu, GuestVirtAddr address, std::span<std::byte> to, Access access,
                                         Privilege privilege);
[[nodiscard]] CopyResult copy_to_guest(Vcpu& vcpu, GuestVirtAddr address, std::span<const std::byte> from,
                                       Privilege privilege);

}  // namespace cadastre
