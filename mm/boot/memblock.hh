// The first allocator: memory as sorted lists of address ranges, from the DTB until the page allocator takes
// over.
//
//   memory    [====== RAM ======]        [========= RAM =========]
//   reserved     [image]  [DTB]                      [allocated]
//   free      [==]     [==]   [==]       [==========]           [==]     in `memory` and not in `reserved`
//
// The semantics are Linux's memblock, to the edge cases. Ranges merge with neighbours of the same node and
// flags; what overlaps an older range keeps the older one's node and flags. A size of 0 is no error and
// changes nothing. A range that would wrap at the top of the 64-bit space ends there. An alignment of 0 means
// a cache line.
//
// Usage at boot: `add` the memory nodes, `reserve` what is taken, then `alloc*`. The two arrays are part of
// the object, so nothing else is needed; when more than kInitialRegions ranges are wanted they double into
// memory of their own, which has to be mapped: call `allow_resize(machine)` once the linear map is up (and
// set `current_limit` to what it reaches). At the end `for_each_free_range` hands what is left to the page
// allocator. One CPU uses it: there is no lock.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "mm/base/address.hh"
#include "mm/base/error.hh"
#include "mm/base/format.hh"
#include "mm/base/machine.hh"
#include "mm/base/node.hh"
#include "mm/base/range.hh"
#include "mm/translation/fault.hh"

namespace cadastre {

// What is special about a range of memory. A set of bits.
enum class MemblockFlags : std::uint8_t {
  kNone = 0,
  kHotplug = 1,  // may be pulled out: avoided while `avoid_hotplug` is on
  kMirror = 2,   // more reliable memory: allocations come from here first, once there is any
  kNomap = 4,    // not in the linear map, never allocated
  kPool = 8,     // of what is reserved: for a CMA area, and for nothing else
};

[[nodiscard]] constexpr MemblockFlags operator|(MemblockFlags a, MemblockFlags b) {
  return static_cast<MemblockFlags>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
[[nodiscard]] constexpr MemblockFlags operator&(MemblockFlags a, MemblockFlags b) {
  return static_cast<MemblockFlags>(static_cast<unsigned>(a) & static_cast<unsigned>(b));
}
[[nodiscard]] constexpr MemblockFlags without(MemblockFlags a, MemblockFlags b) {
  return static_cast<MemblockFlags>(static_cast<unsigned>(a) & ~static_cast<unsigned>(b));
}
[[nodiscard]] constexpr bool has(MemblockFlags set, MemblockFlags bit) {
  return (set & bit) == bit;
}

struct MemblockRegion : PhysRange {
  MemblockFlags flags = MemblockFlags::kNone;
  NodeId nid = kNoNode;
};

// One of the two lists: sorted by address, ranges never overlap.
struct MemblockType {
  std::string_view name;
  MemblockRegion* regions = nullptr;
  std::size_t cnt = 0;
  std::size_t max = 0;
  std::uint64_t total_size = 0;  // of all ranges, in bytes

  [[nodiscard]] std::span<const MemblockRegion> all() const { return {regions, cnt}; }
};

class Memblock {
 public:
  static constexpr std::size_t kInitialRegions = 128;
  static constexpr std::uint64_t kDefaultAlignment = 64;  // a cache line
  static constexpr PhysAddr kAnywhere{~std::uint64_t{0}};
  static constexpr PhysAddr kAccessible{0};  // as an end: up to `current_limit`

  // Constant-initialised: a static Memblock needs no constructor call at run time.
  constexpr Memblock()
      : memory_{.name = "memory", .regions = initial_memory_.data(), .max = kInitialRegions},
        reserved_{.name = "reserved", .regions = initial_reserved_.data(), .max = kInitialRegions} {}
  Memblock(const Memblock&) = delete;
  Memblock& operator=(const Memblock&) = delete;

  // Ranges in and out. All fail with kNoMemory, and change nothing, when the array is full and cannot double.
  [[nodiscard]] Result<> add(PhysAddr base, std::uint64_t size, NodeId nid = kNoNode,
                             MemblockFlags flags = MemblockFlags::kNone);
  [[nodiscard]] Result<> remove(PhysAddr base, std::uint64_t size);
  [[nodiscard]] Result<> reserve(PhysAddr base, std::uint64_t size, NodeId nid = kNoNode,
                                 MemblockFlags flags = MemblockFlags::kNone);
  // Takes [base, base + size) out of `reserved`, whoever put it there: it is free again.
  [[nodiscard]] Result<> phys_free(PhysAddr base, std::uint64_t size);
  // What an allocation returned, by its address in the linear map; nullptr is nothing to free. kCorrupt, and nothing changes,
  // unless all of it is reserved.
  template <Machine M>
  [[nodiscard]] Result<> free(M& machine, const void* pointer, std::uint64_t size) {
    if (pointer == nullptr) return {};
    const PhysAddr base = machine.linear_address(pointer);
    if (!is_all_reserved(base, size)) {
      say("wrong free of", base, size);
      return std::unexpected(Error::kCorrupt);
    }
    return phys_free(base, size);
  }

  // The node or the flags of what is in `memory` within the range (the node of what is in `reserved`); ranges split
  // and merge as needed.
  [[nodiscard]] Result<> set_node(PhysAddr base, std::uint64_t size, NodeId nid);
  [[nodiscard]] Result<> set_reserved_node(PhysAddr base, std::uint64_t size, NodeId nid);
  [[nodiscard]] Result<> set_flags(PhysAddr base, std::uint64_t size, MemblockFlags set);
  [[nodiscard]] Result<> clear_flags(PhysAddr base, std::uint64_t size, MemblockFlags clear);

  // Shrinks each range of `memory` to multiples of `alignment` (a power of two); a range with none goes.
  void trim_memory(std::uint64_t alignment);
  // Keeps `limit` bytes of memory, counted from the bottom, and no reservation above; 0 or more than there is changes
  // nothing.
  [[nodiscard]] Result<> enforce_memory_limit(std::uint64_t limit);
  // Keeps only [base, base + size) of what may be mapped, and only reservations within it. Without any memory yet it
  // changes nothing.
  [[nodiscard]] Result<> cap_memory_range(PhysAddr base, std::uint64_t size);

  // Allocations reserve what they return; the caller owns it until `phys_free`. The contents are undefined.
  // They come from the top of the highest range that fits (from the bottom of the lowest one in bottom-up
  // mode), never from frame 0, never from kNomap memory. They fail with kNoMemory, and with kInvalid for an
  // alignment that is no power of two.
  [[nodiscard]] Result<PhysAddr> alloc(std::uint64_t size, std::uint64_t alignment);
  // Only from [start, end).
  [[nodiscard]] Result<PhysAddr> alloc_range(std::uint64_t size, std::uint64_t alignment, PhysAddr start, PhysAddr end);
  // From `nid` when it has the room, else from any node. `min` is a wish that is dropped when nothing else
  // fits; `max` (at most `current_limit`) is firm.
  [[nodiscard]] Result<PhysAddr> alloc_try_nid(std::uint64_t size, std::uint64_t alignment, PhysAddr min, PhysAddr max,
                                               NodeId nid);
  // The same, from that node only.
  [[nodiscard]] Result<PhysAddr> alloc_exact_nid(std::uint64_t size, std::uint64_t alignment, PhysAddr min,
                                                 PhysAddr max, NodeId nid);
  // Zeroed and by its address in the linear map: set `current_limit` to the map's end first.
  template <Machine M>
  [[nodiscard]] Result<std::byte*> alloc_zeroed(M& machine, std::size_t size, std::size_t alignment,
                                                NodeId nid = kNoNode) {
    const Result<PhysAddr> base = alloc_try_nid(size, alignment, PhysAddr(0), kAccessible, nid);
    if (!base) return std::unexpected(base.error());
    std::byte* bytes = machine.linear(*base);
    clear(bytes, size);
    return bytes;
  }
  // Where `alloc_range` would take it from, without taking it.
  [[nodiscard]] Result<PhysAddr> find_in_range(std::uint64_t size, std::uint64_t alignment, PhysAddr start,
                                               PhysAddr end, NodeId nid, MemblockFlags flags) const;

  void set_bottom_up(bool bottom_up) { bottom_up_ = bottom_up; }
  [[nodiscard]] bool bottom_up() const { return bottom_up_; }
  void set_current_limit(PhysAddr limit) { current_limit_ = limit; }
  [[nodiscard]] PhysAddr current_limit() const { return current_limit_; }
  // Linux's `movable_node`: allocate from kHotplug memory only when asked to.
  void set_avoid_hotplug(bool avoid) { avoid_hotplug_ = avoid; }

  template <Machine M>
  void allow_resize(M& machine) {
    resize_context_ = &machine;
    resize_map_ = [](void* context, PhysAddr base) { return static_cast<M*>(context)->linear(base); };
  }
  // `memblock=debug`: every change is a line of `log`; nullptr turns it off.
  void set_debug(Log* log) { debug_ = log; }
  // Asked by every allocation, and before an array doubles; nullptr: off.
  void set_fault_injector(FaultInjector* fault) { fault_ = fault; }
  void dump(Log& log) const;

  [[nodiscard]] const MemblockType& memory() const { return memory_; }
  [[nodiscard]] const MemblockType& reserved() const { return reserved_; }
  [[nodiscard]] PhysAddr start_of_memory() const;  // kAnywhere and 0 without memory
  [[nodiscard]] PhysAddr end_of_memory() const;
  [[nodiscard]] bool is_memory(PhysAddr address) const;
  [[nodiscard]] bool is_map_memory(PhysAddr address) const;  // and may be mapped
  [[nodiscard]] bool is_reserved(PhysAddr address) const;
  [[nodiscard]] bool is_region_memory(PhysAddr base, std::uint64_t size) const;    // all of it
  [[nodiscard]] bool is_region_reserved(PhysAddr base, std::uint64_t size) const;  // any of it
  [[nodiscard]] bool is_all_reserved(PhysAddr base, std::uint64_t size) const;
  [[nodiscard]] bool overlaps_memory(PhysAddr base, std::uint64_t size) const;  // any of it

  // What is free, each call `visit(PhysAddr start, PhysAddr end, NodeId nid)`, upwards (or downwards); only
  // of `nid` unless that is kNoNode. kNomap and kMirror in `flags` mean: kNomap memory too, only kMirror
  // memory.
  template <std::invocable<PhysAddr, PhysAddr, NodeId> Visit>
  void for_each_free_range(NodeId nid, MemblockFlags flags, Visit visit) const {
    Cursor cursor;
    Range range;
    while (next_free(cursor, nid, flags, range)) visit(range.start, range.end, range.nid);
  }
  template <std::invocable<PhysAddr, PhysAddr, NodeId> Visit>
  void for_each_free_range_reverse(NodeId nid, MemblockFlags flags, Visit visit) const {
    Cursor cursor{.memory = memory_.cnt, .gap = reserved_.cnt + 1};
    Range range;
    while (previous_free(cursor, nid, flags, range)) visit(range.start, range.end, range.nid);
  }

 private:
  enum class NodeMatch : std::uint8_t { kPreferred, kExact };
  struct Range {
    PhysAddr start;
    PhysAddr end;
    NodeId nid = kNoNode;
  };
  // Gap g of `reserved` lies between its ranges g - 1 and g. Downwards both fields are one past the next to
  // look at.
  struct Cursor {
    std::size_t memory = 0;
    std::size_t gap = 0;
  };
  struct Slice {  // of a type's array
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  static void clear(std::byte* bytes, std::size_t size);
  static void insert_at(MemblockType& type, std::size_t index, const MemblockRegion& region);
  static void remove_at(MemblockType& type, std::size_t index);
  static void merge(MemblockType& type);
  static std::size_t fill_gaps(MemblockType& type, MemblockRegion region, bool insert);
  [[nodiscard]] Result<> add_range(MemblockType& type, const MemblockRegion& region);
  [[nodiscard]] Result<Slice> isolate_range(MemblockType& type, PhysAddr base, std::uint64_t size);
  [[nodiscard]] Result<> remove_range(MemblockType& type, PhysAddr base, std::uint64_t size);
  [[nodiscard]] Result<> double_array(MemblockType& type, PhysAddr avoid_start, std::uint64_t avoid_size);
  template <class Change>
  [[nodiscard]] Result<> change_range(MemblockType& type, PhysAddr base, std::uint64_t size, Change change);

  [[nodiscard]] bool skip(const MemblockRegion& region, NodeId nid, MemblockFlags flags) const;
  [[nodiscard]] Range gap_at(std::size_t index) const;
  bool next_free(Cursor& cursor, NodeId nid, MemblockFlags flags, Range& out) const;
  bool previous_free(Cursor& cursor, NodeId nid, MemblockFlags flags, Range& out) const;
  [[nodiscard]] Result<PhysAddr> alloc_range_nid(std::uint64_t size, std::uint64_t alignment, PhysAddr start,
                                                 PhysAddr end, NodeId nid, NodeMatch match);
  [[nodiscard]] Result<PhysAddr> alloc_with_wish(std::uint64_t size, std::uint64_t alignment, PhysAddr min,
                                                 PhysAddr max, NodeId nid, NodeMatch match);
  void say(std::string_view what, PhysAddr base, std::uint64_t size) const;
  [[nodiscard]] bool fails() const { return fault_ != nullptr && fault_->should_fail(); }

  std::array<MemblockRegion, kInitialRegions> initial_memory_{};
  std::array<MemblockRegion, kInitialRegions> initial_reserved_{};
  MemblockType memory_;
  MemblockType reserved_;
  PhysAddr current_limit_ = kAnywhere;
  bool bottom_up_ = false;
  bool avoid_hotplug_ = false;
  bool has_mirror_ = false;
  void* resize_context_ = nullptr;
  std::byte* (*resize_map_)(void*, PhysAddr) = nullptr;
  PhysAddr memory_array_;  // where the arrays are, once they have doubled
  PhysAddr reserved_array_;
  Log* debug_ = nullptr;
  FaultInjector* fault_ = nullptr;
};

}  // namespace cadastre
