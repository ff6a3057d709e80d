// What a frame may be, and the one table of how that may change. Debug builds hold every change against it (frame.hh).
//
//             +----------- boot hand-over ------------+
//             |                                       v
//        kReserved (0)                            kCmaIdle <---> kDmaPinned
//             |                                    |     ^
//             v        refill           alloc      v     |  free, or moved out
//           kFree <-----------> kCached -----> kHyp    kCmaLent
//             ^                    ^           |  ^
//             |                    |    give   v  | slab pages
//             +---- free, scrubbed +------- kGuest|kSlab
//                                            |  ^
//                                            v  |  the last sharer but one is gone
//                                         kGuestShared          any of them -> kPoisoned, for ever
//
// The state is that of a whole block and is kept in its first frame; the words of the block's other frames are all zero,
// which is why a block changes hands in a few instructions whatever its size. A slab becomes kHyp again before it is freed, so
// that only the slab allocator frees it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cadastre {

enum class FrameState : std::uint8_t {
  kReserved,     // never handed to the allocator (the image, firmware, a hole); or not the first frame of its
                 // block
  kFree,         // in the buddy
  kCached,       // free, on a CPU's page list
  kHyp,          // the hypervisor's: tables, buffers, everything that is not an object
  kSlab,         // the hypervisor's: objects
  kGuest,        // a guest's own
  kGuestShared,  // several guests', read-only and counted
  kCmaIdle,      // free, in a CMA area
  kCmaLent,      // a guest's, in a CMA area: can be asked back
  kDmaPinned,    // a device reaches it: stays where it is
  kPoisoned,     // broken: never used again
};
inline constexpr std::size_t kFrameStates = 11;

// Owners are guests by number; what is nobody's else is the hypervisor's.
using OwnerId = std::uint8_t;
inline constexpr OwnerId kHypervisor = 0;

namespace ownership_detail {

constexpr std::uint16_t bit(FrameState state) {
  return static_cast<std::uint16_t>(1U << static_cast<unsigned>(state));
}
template <class... States>
constexpr std::uint16_t set_of(States... states) {
  return static_cast<std::uint16_t>((0U | ... | bit(states)));
}

// Row: from. Bits: to. A shared frame is moved to one fresh from the allocator; a pinned one is let go
// first, and free then.
constexpr auto transitions() {
  using enum FrameState;
  std::array<std::uint16_t, kFrameStates> table{};
  const auto from = [&](FrameState state) -> std::uint16_t& { return table[static_cast<std::size_t>(state)]; };
  from(kReserved) = set_of(kFree, kCmaIdle, kPoisoned);
  from(kFree) = set_of(kCached, kHyp, kCmaIdle, kDmaPinned, kPoisoned);
  from(kCached) = set_of(kFree, kHyp, kPoisoned);
  from(kHyp) = set_of(kFree, kCached, kCmaIdle, kSlab, kGuest, kGuestShared, kDmaPinned, kPoisoned);
  from(kSlab) = set_of(kHyp, kPoisoned);
  from(kGuest) = set_of(kFree, kCached, kGuestShared, kDmaPinned, kPoisoned);
  from(kGuestShared) = set_of(kFree, kCached, kGuest, kPoisoned);
  from(kCmaIdle) = set_of(kCmaLent, kDmaPinned, kFree, kPoisoned);
  from(kCmaLent) = set_of(kCmaIdle, kPoisoned);
  from(kDmaPinned) = set_of(kFree, kCached, kCmaIdle, kHyp, kGuest, kPoisoned);
  return table;
}

inline constexpr auto kTransitions = transitions();

}  // namespace ownership_detail

[[nodiscard]] constexpr bool may_become(FrameState from, FrameState to) {
  return (ownership_detail::kTransitions[static_cast<std::size_t>(from)] & ownership_detail::bit(to)) != 0;
}

// The same, where a block may also stay what it is: other owners, other references, another order.
[[nodiscard]] constexpr bool may_write(FrameState from, FrameState to) {
  return from == to || may_become(from, to);
}

// A set of states, which a block's is in or not.
class FrameStates {
 public:
  template <class... States>
  explicit constexpr FrameStates(States... states) : bits_(ownership_detail::set_of(states...)) {}
  [[nodiscard]] constexpr bool has(FrameState state) const { return (bits_ >> static_cast<unsigned>(state) & 1U) != 0; }

 private:
  unsigned bits_;
};

[[nodiscard]] constexpr bool is_free(FrameState state) {
  using enum FrameState;
  return FrameStates(kFree, kCached, kCmaIdle).has(state);
}
// Contents that only its owner may see: scrubbed before the frame is anyone else's.
[[nodiscard]] constexpr bool is_guest(FrameState state) {
  using enum FrameState;
  return FrameStates(kGuest, kGuestShared, kCmaLent).has(state);
}
[[nodiscard]] constexpr bool is_allocated(FrameState state) {
  using enum FrameState;
  return FrameStates(kHyp, kSlab, kDmaPinned, kGuest, kGuestShared, kCmaLent).has(state);
}
// What its owner may just give back: a device does not know that it should let go first, and of a slab, objects may be in use.
[[nodiscard]] constexpr bool may_free(FrameState state) {
  using enum FrameState;
  return FrameStates(kHyp, kGuest, kGuestShared, kCmaLent).has(state);
}

[[nodiscard]] constexpr std::string_view to_string(FrameState state) {
  using enum FrameState;
  switch (state) {
    case kReserved:
      return "reserved";
    case kFree:
      return "free";
    case kCached:
      return "cached";
    case kHyp:
      return "hyp";
    case kSlab:
      return "slab";
    case kGuest:
      return "guest";
    case kGuestShared:
      return "guest-shared";
    case kCmaIdle:
      return "cma-idle";
    case kCmaLent:
      return "cma-lent";
    case kDmaPinned:
      return "dma-pinned";
    case kPoisoned:
      return "poisoned";
  }
  return "corrupt";
}

}  // namespace cadastre
