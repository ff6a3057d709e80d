// Who has a shared page: guests that all read the one frame, each at an address of its own.
//
//   Frame (kGuestShared, nobody's)              Sharer                Sharer
//     references: 2, and who copies it just now   guest 1, gfn 0x40012    guest 2, gfn 0x40012
//     links  ------------------------------------>  next ---------------->  next --> nothing
//
// So a page's users are found from its frame, as the one of a page that is not shared is. The last of them gets it back as its
// own. Who holds the frame without mapping it (to copy it) counts as a user, and so keeps it from changing hands.
//
// One lock for all; it is inside the lock of any guest's memory, and nothing is allocated under it.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "mm/base/address.hh"
#include "mm/base/check.hh"
#include "mm/base/error.hh"
#include "mm/base/spinlock.hh"
#include "mm/frames/frame.hh"
#include "mm/frames/ownership.hh"
#include "mm/objects/slab.hh"

namespace cadastre {

struct Sharer {
  Sharer* next = nullptr;
  OwnerId guest = kHypervisor;
  Gfn gfn;
};

class SharerLists {
 public:
  SharerLists(FrameTable& frames, Ownership& ownership) : frames_(frames), ownership_(ownership) {}
  SharerLists(const SharerLists&) = delete;
  SharerLists& operator=(const SharerLists&) = delete;

  // A guest's own page is shared from now on, by `first` alone. Errors are Ownership::share's.
  [[nodiscard]] Result<> begin(Pfn page, Sharer& first) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    if (const Result<> shared = ownership_.share(page); !shared) return shared;
    first.next = nullptr;
    set_head(page, &first);
    return {};
  }
  // One more guest maps it. kLimit: there are too many.
  [[nodiscard]] Result<> add(Pfn page, Sharer& sharer) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    if (const Result<> counted = ownership_.get(page); !counted) return counted;
    sharer.next = head(page);
    set_head(page, &sharer);
    return {};
  }

  // What is left of a page when one of its users has gone.
  struct Left {
    Sharer* sharer = nullptr;  // the caller's again
    bool page = false;         // the page itself is the caller's own, with the old contents
  };
  // `guest` does not map it at `gfn` any more.
  [[nodiscard]] Left remove(Pfn page, OwnerId guest, Gfn gfn) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    return {.sharer = unlink(page, guest, gfn), .page = put(page, guest, gfn)};
  }

  // Keeps its contents as they are, and the frame from being freed, until `let_go`. kLimit as for `add`.
  [[nodiscard]] Result<> hold(Pfn page) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    return ownership_.get(page);
  }
  // True: nobody else wanted it meanwhile, and it is `guest`'s own to free.
  [[nodiscard]] bool let_go(Pfn page, OwnerId guest, Gfn gfn) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    return put(page, guest, gfn);
  }

  // If `guest`, which maps it at `gfn`, is the only user it is a page of its own again. Returns what it was listed with,
  // nullptr if there are others.
  [[nodiscard]] Sharer* claim(Pfn page, OwnerId guest, Gfn gfn) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    if (frame(page).references() != 1) return nullptr;
    Sharer* mine = unlink(page, guest, gfn);
    CHECK(ownership_.unshare(page, guest, gfn));
    return mine;
  }

  // Calls f(OwnerId, Gfn) for each that maps the shared page. `f` takes no lock.
  template <class F>
  void for_each(Pfn page, F&& f) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    if (frame(page).state() != FrameState::kGuestShared) return;
    for (const Sharer* sharer = head(page); sharer != nullptr; sharer = sharer->next) f(sharer->guest, sharer->gfn);
  }

 private:
  // A pointer, in the links that a shared frame has no other use for.
  using Links = std::array<FrameIndex, 2>;
  static_assert(sizeof(void*) <= sizeof(Links));

  [[nodiscard]] Frame& frame(Pfn page) const { return frames_[frames_.index_of(page)]; }
  [[nodiscard]] Sharer* head(Pfn page) const {
    const Frame& shared = frame(page);
    const auto bits = std::bit_cast<std::uint64_t>(Links{shared.next, shared.previous});
    return reinterpret_cast<Sharer*>(static_cast<std::uintptr_t>(bits));
  }
  void set_head(Pfn page, Sharer* sharer) {
    const auto links = std::bit_cast<Links>(static_cast<std::uint64_t>(reinterpret_cast<std::uintptr_t>(sharer)));
    frame(page).next = links[0];
    frame(page).previous = links[1];
  }
  [[nodiscard]] Sharer* unlink(Pfn page, OwnerId guest, Gfn gfn) REQUIRES(lock_) {
    Sharer* before = nullptr;
    for (Sharer* at = head(page); at != nullptr; before = at, at = at->next) {
      if (at->guest != guest || at->gfn != gfn) continue;
      before != nullptr ? before->next = at->next : (set_head(page, at->next), at->next);
      return at;
    }
    CHECK(false);  // whoever maps a shared page is in its list
    return nullptr;
  }
  [[nodiscard]] bool put(Pfn page, OwnerId guest, Gfn gfn) REQUIRES(lock_) {
    const Result<unsigned> left = ownership_.put(page);
    CHECK(left);
    if (*left != 0) return false;
    CHECK(ownership_.unshare(page, guest, gfn));
    return true;
  }

  Spinlock lock_;
  FrameTable& frames_;
  Ownership& ownership_;
};

// With the objects that the lists are made of.
template <Machine M>
class Sharers : public SharerLists {
 public:
  Sharers(FrameTable& frames, Ownership& ownership, SlabAllocator<M>& slabs)
      : SharerLists(frames, ownership), cache_(slabs) {}
  [[nodiscard]] Result<> init() { return cache_.init("sharer"); }
  [[nodiscard]] Result<Sharer*> create(OwnerId guest, Gfn gfn) {
    return cache_.create(Sharer{.guest = guest, .gfn = gfn});
  }
  void destroy(Sharer* sharer) {
    if (sharer != nullptr) cache_.destroy(sharer);
  }

 private:
  SlabCache<Sharer, M> cache_;
};

}  // namespace cadastre
