// NUMA nodes: banks of memory with a distance to each other.
#pragma once

#include <array>
#include <cstdint>

namespace cadastre {

using NodeId = std::uint8_t;
inline constexpr unsigned kMaxNodes = 4;
inline constexpr NodeId kNoNode = 0xff;  // any node, or one that nobody named

// As in a device tree's distance-map [ACPI 5.2.17]: 10 to itself, more to others, 20 where nobody says.
struct NodeDistances {
  static constexpr std::uint8_t kLocal = 10;
  static constexpr std::uint8_t kRemote = 20;
  std::array<std::array<std::uint8_t, kMaxNodes>, kMaxNodes> between{};

  constexpr NodeDistances() {
    for (unsigned from = 0; from < kMaxNodes; ++from) {
      for (unsigned to = 0; to < kMaxNodes; ++to) between[from][to] = from == to ? kLocal : kRemote;
    }
  }
};

}  // namespace cadastre
