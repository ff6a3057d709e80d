// The four address spaces, each a type of its own.
//
//   guest virtual --(the guest's tables)--> IPA --(stage 2)--> physical <--(HYP's tables)-- HYP virtual
//
// `a - b` is a size in bytes, `a + size` an address, `a + b` does not compile. Nothing converts by itself;
// frame numbers convert by `frame_of` and `address_of`, everything else by a function that knows the mapping.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace cadastre {

inline constexpr unsigned kPageShift = 12;
inline constexpr std::size_t kPageSize = std::size_t{1} << kPageShift;
inline constexpr unsigned kBlockShift = 21;  // an LPAE level-2 block, and a pageblock
inline constexpr std::size_t kBlockSize = std::size_t{1} << kBlockShift;
inline constexpr unsigned kPagesPerBlock = 1U << (kBlockShift - kPageShift);

template <class Tag, class Representation>
class Address {
 public:
  using Value = Representation;

  constexpr Address() = default;
  explicit constexpr Address(Value value) : value_(value) {}

  [[nodiscard]] constexpr Value value() const { return value_; }
  [[nodiscard]] constexpr bool is_aligned(Value alignment) const { return (value_ & (alignment - 1)) == 0; }
  // `alignment` is a power of two. `aligned_up` wraps at the top of the space as unsigned arithmetic does.
  [[nodiscard]] constexpr Address aligned_down(Value alignment) const { return Address(value_ & ~(alignment - 1)); }
  [[nodiscard]] constexpr Address aligned_up(Value alignment) const {
    return Address((value_ + alignment - 1) & ~(alignment - 1));
  }
  [[nodiscard]] constexpr Value offset_in(Value alignment) const { return value_ & (alignment - 1); }

  constexpr Address& operator+=(Value size) {
    value_ += size;
    return *this;
  }
  friend constexpr Address operator+(Address a, Value size) { return Address(a.value_ + size); }
  friend constexpr Address operator-(Address a, Value size) { return Address(a.value_ - size); }
  friend constexpr Value operator-(Address a, Address b) { return a.value_ - b.value_; }
  friend constexpr auto operator<=>(Address, Address) = default;

 private:
  Value value_ = 0;
};

using PhysAddr = Address<struct PhysTag, std::uint64_t>;  // LPAE gives 40 bits
using IpaAddr = Address<struct IpaTag, std::uint64_t>;    // 40 bits
using GuestVirtAddr = Address<struct GuestVirtTag, std::uint32_t>;
using HypVirtAddr = Address<struct HypVirtTag, std::uintptr_t>;

// Frame numbers count pages of 4 KiB: 28 bits reach all of 40-bit space.
using Pfn = Address<struct PfnTag, std::uint32_t>;  // physical
using Gfn = Address<struct GfnTag, std::uint32_t>;  // guest (of an IPA)

[[nodiscard]] constexpr Pfn frame_of(PhysAddr a) {
  return Pfn(static_cast<std::uint32_t>(a.value() >> kPageShift));
}
[[nodiscard]] constexpr Gfn frame_of(IpaAddr a) {
  return Gfn(static_cast<std::uint32_t>(a.value() >> kPageShift));
}
[[nodiscard]] constexpr PhysAddr address_of(Pfn f) {
  return PhysAddr(std::uint64_t{f.value()} << kPageShift);
}
[[nodiscard]] constexpr IpaAddr address_of(Gfn f) {
  return IpaAddr(std::uint64_t{f.value()} << kPageShift);
}

static_assert(sizeof(PhysAddr) == 8 && sizeof(Pfn) == 4);
static_assert(PhysAddr(0x5000) - PhysAddr(0x1000) == 0x4000);
static_assert(address_of(Pfn(0x1c0000)).value() == 0x1'c000'0000);

}  // namespace cadastre
