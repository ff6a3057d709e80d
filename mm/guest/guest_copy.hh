// Bytes of a guest by virtual address, as its CPU would reach them: page by page through both stages, with the rights of a
// privilege, up to the first byte that faults.
//
//   address         page                 page                 page
//      |--------------|--------------------|--------|
//      walk, copy     walk, copy           walk: fault          -> its address, and how many bytes came before
//
// Meant for little: an instruction, a frame of a stack, a structure that a guest points to. Takes no memory itself.
#pragma once

#include <concepts>
#include <cstddef>
#include <expected>
#include <span>

#include "mm/base/range.hh"
#include "mm/translation/guest_walk.hh"

namespace cadastre {

// Memory that can also be read and written, and populated as the guest's own access would.
template <class M>
concept GuestRam = GuestPhysicalMemory<M> && requires(M& guest, IpaAddr ipa, Access access, PhysAddr physical,
                                                      std::span<std::byte> to, std::span<const std::byte> from) {
  // Answers a stage-2 fault; true: it is gone, look again.
  { guest.serve_fault(ipa, access) } -> std::same_as<bool>;
  // Bytes of one page that `translate` led to and that is not a device.
  guest.read(physical, to);
  guest.write(physical, from);
};

// guest_walk(), with stage-2 faults answered as they come: what is left is a fault that the guest has to be told of. A
// device that is mapped is an external abort: what an access to it does is not for the hypervisor to find out.
template <GuestRam Memory>
[[nodiscard]] WalkResult<GuestTranslation> walk_populating(const GuestMmu& mmu, Memory& guest, GuestVirtAddr address,
                                                           Access access, Privilege privilege) {
  // One for each descriptor and one for the page, twice: a page can be missing first, and write-protected then.
  constexpr unsigned kMostFaults = 8;
  for (unsigned served = 0;; ++served) {
    WalkResult<GuestTranslation> result = guest_walk(mmu, guest, address, access, privilege);
    if (result) {
      if (!result->stage2.is_device()) return result;
      return std::unexpected(
          GuestFault{.kind = FaultKind::kExternal, .level = 0, .stage2 = true, .ipa = result->stage1.ipa});
    }
    const GuestFault& fault = result.error();
    if (!fault.stage2 || served == kMostFaults) return result;
    if (!guest.serve_fault(fault.ipa, fault.on_walk ? Access::kRead : access)) return result;
  }
}

struct CopyFault {
  std::size_t done;       // bytes before it
  GuestVirtAddr address;  // of the first byte that faults
  GuestFault fault;
};
using CopyResult = std::expected<void, CopyFault>;

// `access` is kRead or kExecute. An address wraps at 2^32, as the CPU's does.
template <GuestRam Memory>
[[nodiscard]] CopyResult copy_from_guest(const GuestMmu& mmu, Memory& guest, GuestVirtAddr address,
                                         std::span<std::byte> to, Access access, Privilege privilege) {
  return for_each_piece(address, to.size(), [&](GuestVirtAddr at, std::size_t done, std::size_t part) -> CopyResult {
    const auto page = walk_populating(mmu, guest, at, access, privilege);
    if (!page) return std::unexpected(CopyFault{done, at, page.error()});
    guest.read(page->physical, to.subspan(done, part));
    return {};
  });
}

template <GuestRam Memory>
[[nodiscard]] CopyResult copy_to_guest(const GuestMmu& mmu, Memory& guest, GuestVirtAddr address,
                                       std::span<const std::byte> from, Privilege privilege) {
  return for_each_piece(address, from.size(), [&](GuestVirtAddr at, std::size_t done, std::size_t part) -> CopyResult {
    const auto page = walk_populating(mmu, guest, at, Access::kWrite, privilege);
    if (!page) return std::unexpected(CopyFault{done, at, page.error()});
    guest.write(page->physical, from.subspan(done, part));
    return {};
  });
}

}  // namespace cadastre
