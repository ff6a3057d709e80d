// NUMA nodes: banks of memory with a distance to each other.
#pragma once

#include <cstdint>

namespace cadastre {

using NodeId = std::uint8_t;
inline constexpr unsigned kMaxNodes = 4;
inline constexpr NodeId kNoNode = 0xff;  // any node, or one that nobody named

}  // namespace cadastre
