// What an allocation may do and what it wants: `alloc(0, kZero | kNoWarn)`.
#pragma once

#include <cstdint>

#include "mm/frames/frame.hh"

namespace cadastre {

class AllocFlags {
 public:
  constexpr AllocFlags() = default;
  explicit constexpr AllocFlags(unsigned bits) : bits_(bits) {}

  [[nodiscard]] constexpr bool has(AllocFlags flag) const { return (bits_ & flag.bits_) != 0; }
  [[nodiscard]] constexpr bool has_all(AllocFlags flags) const { return (bits_ & flags.bits_) == flags.bits_; }
  [[nodiscard]] constexpr AllocFlags without(AllocFlags flags) const { return AllocFlags(bits_ & ~flags.bits_); }
  friend constexpr AllocFlags operator|(AllocFlags a, AllocFlags b) { return AllocFlags(a.bits_ | b.bits_); }
  friend constexpr bool operator==(AllocFlags, AllocFlags) = default;

 private:
  unsigned bits_ = 0;
};

inline constexpr AllocFlags kDma{1U << 0U};      // only what 32-bit masters reach
inline constexpr AllocFlags kHighmem{1U << 1U};  // outside of the linear map will do, and is preferred
inline constexpr AllocFlags kMovable{
    1U << 2U};  // guest RAM: its owner's migrator can move it, so it may be lent from CMA
inline constexpr AllocFlags kReclaimable{1U << 3U};  // a shrinker can make its user give it back
inline constexpr AllocFlags kZero{1U << 4U};         // cleared
inline constexpr AllocFlags kAtomic{1U << 5U};       // no reclaim; may go below the minimum watermark
inline constexpr AllocFlags kNoRetry{1U << 6U};      // shrinkers are asked once at most
inline constexpr AllocFlags kNoWarn{1U << 7U};       // failing is expected: no line in the log
inline constexpr AllocFlags kCold{1U << 8U};         // not for this CPU's cache: the page that was longest free
inline constexpr AllocFlags kThisNode{1U << 9U};     // no other node

// Every allocation may fail, and says so. Code that wants one that does not is refused by the compiler.
inline constexpr struct NoFail {
} kNoFail;
AllocFlags operator|(AllocFlags, NoFail) = delete;
AllocFlags operator|(NoFail, AllocFlags) = delete;

[[nodiscard]] constexpr MigrateType migrate_type(AllocFlags flags) {
  if (flags.has(kMovable)) return MigrateType::kMovable;
  return flags.has(kReclaimable) ? MigrateType::kReclaimable : MigrateType::kUnmovable;
}

}  // namespace cadastre
