#include "hyp/guest/guest_ram.hh"
#include "hyp/core/interrupts.hh"

#include <cstring>

#include "arch/armv7/cache.hh"
#include "arch/armv7/machine.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"
#include "mm/base/range.hh"

namespace cadastre {
namespace {

using arch::machine;

// copy(address, bytes before it, size) for each page of a range: a failure says what was done of the whole.
template <class Copy>
CopyResult copy_by_page(GuestVirtAddr address, std::size_t size, Copy&& copy) {
  return for_each_piece(address, size, [&](GuestVirtAddr at, std::size_t done, std::size_t part) {
    return copy(at, done, part).transform_error([&](CopyFault fault) {
      fault.done += done;
      return fault;
    });
  });
}

}  // namespace

void read_ram(PhysAddr physical, std::span<std::byte> to, bool past_caches) {
  const std::byte* page = machine.kmap(frame_of(physical));
  const std::byte* from = page + physical.offset_in(kPageSize);
  if (past_caches) arch::clean_and_invalidate_data_cache(from, to.size());
  std::memcpy(to.data(), from, to.size());
  machine.kunmap(page);
}

void write_ram(PhysAddr physical, std::span<const std::byte> from, bool past_caches) {
  std::byte* page = machine.kmap(frame_of(physical));
  std::byte* to = page + physical.offset_in(kPageSize);
  // A line from before must not hide, or overwrite, what the guest wrote beside it.
  if (past_caches) arch::clean_and_invalidate_data_cache(to, from.size());
  std::memcpy(to, from.data(), from.size());
  if (past_caches) arch::clean_and_invalidate_data_cache(to, from.size());
  machine.kunmap(page);
}

CopyResult copy_from_guest(Vcpu& vcpu, GuestVirtAddr address, std::span<std::byte> to, Access access,
                           Privilege privilege) {
  const GuestMmu mmu = loaded_mmu();
  return copy_by_page(address, to.size(), [&](GuestVirtAddr at, std::size_t done, std::size_t size) {
    return vcpu.vm.memory().with_ram(
        mmu, Populate::kYes, [&] { handle_interrupts(&vcpu); },
        [&](auto& ram) { return copy_from_guest(mmu, ram, at, to.subspan(done, size), access, privilege); });
  });
}

CopyResult copy_to_guest(Vcpu& vcpu, GuestVirtAddr address, std::span<const std::byte> from, Privilege privilege) {
  const GuestMmu mmu = loaded_mmu();
  return copy_by_page(address, from.size(), [&](GuestVirtAddr at, std::size_t done, std::size_t size) {
    return vcpu.vm.memory().with_ram(
        mmu, Populate::kYes, [&] { handle_interrupts(&vcpu); },
        [&](auto& ram) { return copy_to_guest(mmu, ram, at, from.subspan(done, size), privilege); });
  });
}

}  // namespace cadastre
