// What the allocators need from the machine they run on. ARM supplies the real one (arch/armv7/machine.hh),
// tests one whose "RAM" is an array and whose CPU is chosen by the test.
#pragma once

#include <concepts>
#include <cstddef>

#include "mm/base/address.hh"

namespace cadastre {

inline constexpr unsigned kMaxCpus = 8;

template <class M>
concept Machine = requires(M& machine, PhysAddr physical, Pfn pfn, const void* pointer, std::byte* bytes) {
  // The running CPU, [0, kMaxCpus). Inline: it is on every allocator's fast path.
  { machine.cpu() } -> std::convertible_to<unsigned>;
  // Low memory is always mapped. `linear(linear_address(p)) == p`.
  { machine.linear(physical) } -> std::same_as<std::byte*>;
  { machine.linear_address(pointer) } -> std::same_as<PhysAddr>;
  // First frame above the linear map: memory from there on is high memory, reached page by page with kmap.
  // Mappings of one CPU nest and are undone in the opposite order.
  { machine.high_memory() } -> std::same_as<Pfn>;
  { machine.kmap(pfn) } -> std::same_as<std::byte*>;
  machine.kunmap(bytes);
};

}  // namespace cadastre
