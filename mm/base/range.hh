// Ranges of addresses, and their pieces that lie in one page.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "mm/base/address.hh"

namespace cadastre {

// [base, base + size) of one address space; to be an address space's own, `A` is one of mm/base/address.hh.
template <class A>
struct Range {
  A base{};
  std::uint64_t size = 0;

  [[nodiscard]] constexpr A end() const { return base + size; }
  friend constexpr bool operator==(const Range&, const Range&) = default;
};
using PhysRange = Range<PhysAddr>;
using IpaRange = Range<IpaAddr>;

// Calls f(address, bytes before it, its bytes) for each piece of [base, base + size) that lies in one page, until what `f`
// returns is false; that is returned, or what is true. Addresses wrap as their type does.
template <class A, class F>
constexpr auto for_each_piece(A base, std::uint64_t size, F&& f) {
  using Outcome = std::invoke_result_t<F, A, std::size_t, std::size_t>;
  for (std::uint64_t done = 0; done < size;) {
    const A at = base + static_cast<A::Value>(done);
    const auto part =
        static_cast<std::size_t>(std::min<std::uint64_t>(size - done, kPageSize - at.offset_in(kPageSize)));
    if constexpr (std::is_void_v<Outcome>) {
      f(at, static_cast<std::size_t>(done), part);
    } else {
      if (Outcome outcome = f(at, static_cast<std::size_t>(done), part); !outcome) return outcome;
    }
    done += part;
  }
  return Outcome();
}

}  // namespace cadastre
