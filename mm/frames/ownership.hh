// Allocated frames change hands: from the hypervisor to a guest, between guests, and in the size of their blocks.
#pragma once

#include "mm/base/address.hh"
#include "mm/base/error.hh"
#include "mm/frames/frame.hh"
#include "mm/frames/frame_state.hh"

namespace cadastre {

// The places that a frame's owner changes besides allocation and release. A block's owner has it to itself:
// who calls these holds the owner's lock. They fail with kCorrupt, and change nothing, when the table of
// transitions says no.
class Ownership {
 public:
  explicit constexpr Ownership(FrameTable& frames) : frames_(frames) {}

  // A block fresh from the allocator becomes the guest's, backing `gfn` and the frames after it.
  [[nodiscard]] Result<> give(Pfn block, OwnerId guest, Gfn gfn);
  // One state to another, as the table allows.
  [[nodiscard]] Result<> change(Pfn block, FrameState to);
  // A guest's block whose contents are gone: what is left to do is to free it, without another scrub.
  [[nodiscard]] Result<> take_back(Pfn block);
  // A guest's page becomes nobody's in particular, with one user; and the other way, with at most one user left. kInvalid for
  // more than a page, kCorrupt for what a CMA area lent.
  [[nodiscard]] Result<> share(Pfn page);
  [[nodiscard]] Result<> unshare(Pfn page, OwnerId guest, Gfn gfn);
  // One more or one less user of a shared block; `put` returns how many are left. kLimit at 65535.
  [[nodiscard]] Result<> get(Pfn block);
  [[nodiscard]] Result<unsigned> put(Pfn block);
  // One block into blocks of `order`, of the same owner and state, each with its own guest frame number.
  [[nodiscard]] Result<> split(Pfn block, unsigned order);
  // The other way: kInvalid unless the 2^order frames from `block` are one owner's and back consecutive guest
  // frames.
  [[nodiscard]] Result<> join(Pfn block, unsigned order);

 private:
  [[nodiscard]] Result<Frame*> allocated(Pfn block);

  FrameTable& frames_;
};

}  // namespace cadastre
