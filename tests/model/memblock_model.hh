// A naive memblock: what each KiB of a small address space is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "mm/boot/memblock.hh"

namespace cadastre::model {

class MemblockModel {
 public:
  static constexpr std::uint64_t kUnit = 1024;
  static constexpr std::size_t kUnitsPerPage = kPageSize / kUnit;

  struct Unit {
    bool memory = false;
    MemblockFlags flags = MemblockFlags::kNone;
    NodeId nid = kNoNode;
    bool reserved = false;
    MemblockFlags reserved_flags = MemblockFlags::kNone;
    NodeId reserved_nid = kNoNode;
  };
  // What an allocation asks for, in units.
  struct Request {
    std::size_t count = 0;
    std::size_t alignment = 1;
    std::size_t start = 0;
    std::size_t end = 0;
    NodeId nid = kNoNode;
    MemblockFlags flags = MemblockFlags::kNone;
  };

  explicit MemblockModel(std::size_t units) : units_(units) {}

  std::vector<Unit>& units() { return units_; }
  const std::vector<Unit>& units() const { return units_; }
  bool bottom_up = false;
  bool avoid_hotplug = false;

  // Does the list hold exactly this, with neighbours that are alike in one range?
  bool agrees(const MemblockType& type, bool reserved) const {
    std::uint64_t total = 0;
    std::size_t at = 0;
    for (const MemblockRegion& region : type.all()) {
      while (at < units_.size() && !in(at, reserved)) ++at;
      const std::size_t first = at;
      while (at < units_.size() && alike(first, at, reserved)) ++at;
      if (at == first || region.base != PhysAddr(first * kUnit) || region.size != (at - first) * kUnit) return false;
      const Unit& unit = units_[first];
      if (region.flags != (reserved ? unit.reserved_flags : unit.flags)) return false;
      if (region.nid != (reserved ? unit.reserved_nid : unit.nid)) return false;
      total += region.size;
    }
    while (at < units_.size() && !in(at, reserved)) ++at;
    return at == units_.size() && type.total_size == total;
  }

  // Where an allocation must come from, in this range and of this node.
  std::optional<std::size_t> find(const Request& request) const {
    std::optional<std::size_t> best;
    const std::size_t end = std::min(request.end, units_.size());
    for (std::size_t at = std::max(request.start, kUnitsPerPage); at + request.count <= end; ++at) {
      if (at % request.alignment != 0 || !is_free(at, request)) continue;
      if (bottom_up) return at;
      best = at;
    }
    return best;
  }
  bool is_free(std::size_t unit, NodeId nid, MemblockFlags flags) const {
    using enum MemblockFlags;
    const Unit& one = units_[unit];
    return one.memory && !one.reserved && (nid == kNoNode || one.nid == nid) &&
           (!has(one.flags, kNomap) || has(flags, kNomap)) && (!has(flags, kMirror) || has(one.flags, kMirror)) &&
           (!avoid_hotplug || !has(one.flags, kHotplug) || has(flags, kHotplug));
  }
  bool same_memory(std::size_t a, std::size_t b) const { return alike(a, b, false); }

 private:
  bool in(std::size_t unit, bool reserved) const { return reserved ? units_[unit].reserved : units_[unit].memory; }
  bool alike(std::size_t a, std::size_t b, bool reserved) const {
    const Unit& one = units_[a];
    const Unit& other = units_[b];
    if (!in(a, reserved) || !in(b, reserved)) return false;
    if (reserved) return one.reserved_nid == other.reserved_nid && one.reserved_flags == other.reserved_flags;
    return one.nid == other.nid && one.flags == other.flags;
  }
  // A free range never spans two ranges of `memory`.
  bool is_free(std::size_t at, const Request& request) const {
    for (std::size_t i = at; i < at + request.count; ++i) {
      if (!is_free(i, request.nid, request.flags) || !same_memory(at, i)) return false;
    }
    return true;
  }

  std::vector<Unit> units_;
};

}  // namespace cadastre::model
