#include "mm/boot/memblock.hh"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <utility>

namespace cadastre {
namespace {

constexpr PhysAddr kTop{~std::uint64_t{0}};

// A range that would wrap ends at the top.
std::uint64_t capped(PhysAddr base, std::uint64_t size) {
  return std::min(size, kTop - base);
}

std::uint64_t whole_pages(std::uint64_t size) {
  return (size + kPageSize - 1) & ~std::uint64_t{kPageSize - 1};
}

bool intersects(PhysAddr a, PhysAddr a_end, PhysAddr b, PhysAddr b_end) {
  return a < b_end && b < a_end;
}

// The range that holds `address`, or nullptr.
const MemblockRegion* find(const MemblockType& type, PhysAddr address) {
  const auto all = type.all();
  const auto after = std::ranges::upper_bound(all, address, {}, &MemblockRegion::base);
  if (after == all.begin()) return nullptr;
  const MemblockRegion& region = *std::prev(after);
  return address < region.end() ? &region : nullptr;
}

bool overlaps(const MemblockType& type, PhysAddr base, std::uint64_t size) {
  const PhysAddr end = base + capped(base, size);
  return std::ranges::any_of(type.all(),
                             [&](const MemblockRegion& r) { return intersects(base, end, r.base, r.end()); });
}

}  // namespace

void Memblock::clear(std::byte* bytes, std::size_t size) {
  std::memset(bytes, 0, size);
}

void Memblock::say(std::string_view what, PhysAddr base, std::uint64_t size) const {
  if (debug_ == nullptr) return;
  const std::uint64_t last = size == 0 ? 0 : size - 1;
  debug_->print("memblock_{}: [{}-{}] {:x} bytes", what, base, base + last, size);
}

// ---- The arrays ----

void Memblock::insert_at(MemblockType& type, std::size_t index, const MemblockRegion& region) {
  std::move_backward(type.regions + index, type.regions + type.cnt, type.regions + type.cnt + 1);
  type.regions[index] = region;
  ++type.cnt;
  type.total_size += region.size;
}

void Memblock::remove_at(MemblockType& type, std::size_t index) {
  type.total_size -= type.regions[index].size;
  std::move(type.regions + index + 1, type.regions + type.cnt, type.regions + index);
  --type.cnt;
  type.regions[type.cnt] = {};
}

void Memblock::merge(MemblockType& type) {
  for (std::size_t i = 0; i + 1 < type.cnt;) {
    MemblockRegion& lower = type.regions[i];
    const MemblockRegion& upper = type.regions[i + 1];
    if (lower.end() != upper.base || lower.nid != upper.nid || lower.flags != upper.flags) {
      ++i;
      continue;
    }
    lower.size += upper.size;
    type.total_size += upper.size;  // which remove_at takes off again
    remove_at(type, i + 1);
  }
}

// Goes over the parts of `region` that no range covers yet, inserts them if told to, and returns how many
// they are.
std::size_t Memblock::fill_gaps(MemblockType& type, MemblockRegion region, bool insert) {
  const PhysAddr end = region.end();
  std::size_t parts = 0;
  std::size_t i = 0;
  const auto part_until = [&](PhysAddr part_end) {
    ++parts;
    if (!insert) return;
    region.size = part_end - region.base;
    insert_at(type, i++, region);
  };
  for (; i < type.cnt && type.regions[i].base < end; ++i) {
    if (type.regions[i].end() <= region.base) continue;
    if (type.regions[i].base > region.base) part_until(type.regions[i].base);
    region.base = std::min(type.regions[i].end(), end);
  }
  if (region.base < end) part_until(end);
  return parts;
}

Result<> Memblock::add_range(MemblockType& type, const MemblockRegion& region) {
  MemblockRegion wanted = region;
  wanted.size = capped(region.base, region.size);
  if (wanted.size == 0) return {};
  // Doubling reserves the new array, which may take some of the room: count again.
  while (type.cnt + fill_gaps(type, wanted, false) > type.max) {
    if (const auto doubled = double_array(type, wanted.base, wanted.size); !doubled) return doubled;
  }
  if (fill_gaps(type, wanted, true) != 0) merge(type);
  return {};
}

// Splits ranges at both edges of [base, base + size), and returns those within.
Result<Memblock::Slice> Memblock::isolate_range(MemblockType& type, PhysAddr base, std::uint64_t size) {
  const PhysAddr end = base + capped(base, size);
  Slice slice;
  if (base == end) return slice;
  while (type.cnt + 2 > type.max) {
    if (const auto doubled = double_array(type, base, size); !doubled) return std::unexpected(doubled.error());
  }
  const auto split_at = [&](std::size_t i, PhysAddr at) {
    MemblockRegion lower = type.regions[i];
    lower.size = at - lower.base;
    type.regions[i].base = at;
    type.regions[i].size -= lower.size;
    type.total_size -= lower.size;
    insert_at(type, i, lower);
  };
  std::size_t i = 0;
  while (i < type.cnt && type.regions[i].end() <= base) ++i;
  if (i < type.cnt && type.regions[i].base < base) split_at(i++, base);
  slice.begin = i;
  for (; i < type.cnt && type.regions[i].base < end; ++i) {
    if (type.regions[i].end() > end) split_at(i, end);
  }
  slice.end = i;
  return slice;
}

Result<> Memblock::remove_range(MemblockType& type, PhysAddr base, std::uint64_t size) {
  const auto slice = isolate_range(type, base, size);
  if (!slice) return std::unexpected(slice.error());
  for (std::size_t i = slice->end; i > slice->begin; --i) remove_at(type, i - 1);
  return {};
}

// The new array comes out of memblock itself, clear of the range that is just being reserved.
Result<> Memblock::double_array(MemblockType& type, PhysAddr avoid_start, std::uint64_t avoid_size) {
  if (resize_map_ == nullptr || fails()) return std::unexpected(Error::kNoMemory);
  const std::size_t new_max = type.max * 2;
  const std::uint64_t new_size = whole_pages(new_max * sizeof(MemblockRegion));
  const bool avoid = &type == &reserved_;
  const PhysAddr above = avoid ? avoid_start + capped(avoid_start, avoid_size) : PhysAddr(0);
  const auto find_between = [&](PhysAddr start, PhysAddr end) {
    if (has_mirror_) {
      if (const auto found = find_in_range(new_size, kPageSize, start, end, kNoNode, MemblockFlags::kMirror)) {
        return found;
      }
    }
    return find_in_range(new_size, kPageSize, start, end, kNoNode, MemblockFlags::kNone);
  };
  auto base = find_between(above, kAccessible);
  if (!base && avoid && avoid_start.value() != 0) {
    base = find_between(PhysAddr(0), std::min(avoid_start, current_limit_));
  }
  if (!base) {
    if (debug_ != nullptr) debug_->print("memblock: no room to double {} to {} entries", type.name, new_max);
    return std::unexpected(Error::kNoMemory);
  }
  say("double_array", *base, new_size);
  // `reserved` has room for its own new array only afterwards; `memory`'s must be safe before it is used.
  if (!avoid) {
    // One more range, and taking the old array out splits one: with room for both, nothing can fail once it has begun.
    while (memory_array_.value() != 0 && reserved_.cnt + 3 > reserved_.max) {
      if (const auto doubled = double_array(reserved_, *base, new_size); !doubled) return doubled;
    }
    if (const auto reserved = reserve(*base, new_size); !reserved) return reserved;
  }

  auto* regions = reinterpret_cast<MemblockRegion*>(resize_map_(resize_context_, *base));
  std::uninitialized_copy_n(type.regions, type.cnt, regions);
  std::uninitialized_value_construct_n(regions + type.cnt, new_max - type.cnt);
  const std::uint64_t old_size = whole_pages(type.max * sizeof(MemblockRegion));
  type.regions = regions;
  type.max = new_max;
  PhysAddr& array = avoid ? reserved_array_ : memory_array_;
  const PhysAddr old_array = std::exchange(array, *base);

  if (avoid) {
    if (const auto reserved = reserve(*base, new_size); !reserved) return reserved;
  }
  if (old_array.value() == 0) return {};  // the initial one
  return phys_free(old_array, old_size);
}

// ---- Ranges in and out ----

Result<> Memblock::add(PhysAddr base, std::uint64_t size, NodeId nid, MemblockFlags flags) {
  say("add", base, size);
  if (has(flags, MemblockFlags::kMirror)) has_mirror_ = true;
  return add_range(memory_, {{base, size}, flags, nid});
}

Result<> Memblock::remove(PhysAddr base, std::uint64_t size) {
  say("remove", base, size);
  return remove_range(memory_, base, size);
}

Result<> Memblock::reserve(PhysAddr base, std::uint64_t size, NodeId nid, MemblockFlags flags) {
  say("reserve", base, size);
  return add_range(reserved_, {{base, size}, flags, nid});
}

Result<> Memblock::phys_free(PhysAddr base, std::uint64_t size) {
  say("phys_free", base, size);
  return remove_range(reserved_, base, size);
}

template <class Change>
Result<> Memblock::change_range(MemblockType& type, PhysAddr base, std::uint64_t size, Change change) {
  const auto slice = isolate_range(type, base, size);
  if (!slice) return std::unexpected(slice.error());
  for (std::size_t i = slice->begin; i < slice->end; ++i) change(type.regions[i]);
  merge(type);
  return {};
}

Result<> Memblock::set_node(PhysAddr base, std::uint64_t size, NodeId nid) {
  return change_range(memory_, base, size, [&](MemblockRegion& region) { region.nid = nid; });
}

Result<> Memblock::set_reserved_node(PhysAddr base, std::uint64_t size, NodeId nid) {
  return change_range(reserved_, base, size, [&](MemblockRegion& region) { region.nid = nid; });
}

Result<> Memblock::set_flags(PhysAddr base, std::uint64_t size, MemblockFlags set) {
  if (has(set, MemblockFlags::kMirror)) has_mirror_ = true;
  return change_range(memory_, base, size, [&](MemblockRegion& region) { region.flags = region.flags | set; });
}

Result<> Memblock::clear_flags(PhysAddr base, std::uint64_t size, MemblockFlags clear) {
  return change_range(memory_, base, size,
                      [&](MemblockRegion& region) { region.flags = without(region.flags, clear); });
}

void Memblock::trim_memory(std::uint64_t alignment) {
  for (std::size_t i = 0; i < memory_.cnt;) {
    MemblockRegion& region = memory_.regions[i];
    const PhysAddr start = region.base.aligned_up(alignment);
    const PhysAddr end = region.end().aligned_down(alignment);
    if (start < region.base || start >= end) {
      remove_at(memory_, i);
      continue;
    }
    memory_.total_size -= region.size - (end - start);
    region.base = start;
    region.size = end - start;
    ++i;
  }
}

Result<> Memblock::enforce_memory_limit(std::uint64_t limit) {
  if (limit == 0 || limit > memory_.total_size) return {};
  for (const MemblockRegion& region : memory_.all()) {
    if (limit > region.size) {
      limit -= region.size;
      continue;
    }
    const PhysAddr end = region.base + limit;
    if (const auto removed = remove_range(memory_, end, kTop - end); !removed) return removed;
    return remove_range(reserved_, end, kTop - end);
  }
  return {};
}

Result<> Memblock::cap_memory_range(PhysAddr base, std::uint64_t size) {
  size = capped(base, size);
  if (size == 0 || memory_.cnt == 0) return {};
  const auto kept = isolate_range(memory_, base, size);
  if (!kept) return std::unexpected(kept.error());
  for (std::size_t i = memory_.cnt; i > 0; --i) {
    const bool inside = i > kept->begin && i <= kept->end;
    if (!inside && !has(memory_.regions[i - 1].flags, MemblockFlags::kNomap)) remove_at(memory_, i - 1);
  }
  if (const auto below = remove_range(reserved_, PhysAddr(0), base.value()); !below) return below;
  return remove_range(reserved_, base + size, kTop - (base + size));
}

// ---- What is free ----

bool Memblock::skip(const MemblockRegion& region, NodeId nid, MemblockFlags flags) const {
  using enum MemblockFlags;
  return (nid != kNoNode && region.nid != nid) ||
         (avoid_hotplug_ && has(region.flags, kHotplug) && !has(flags, kHotplug)) ||
         (has(flags, kMirror) && !has(region.flags, kMirror)) || (has(region.flags, kNomap) && !has(flags, kNomap));
}

Memblock::Range Memblock::gap_at(std::size_t index) const {
  return {.start = index == 0 ? PhysAddr(0) : reserved_.regions[index - 1].end(),
          .end = index == reserved_.cnt ? kTop : reserved_.regions[index].base};
}

bool Memblock::next_free(Cursor& cursor, NodeId nid, MemblockFlags flags, Range& out) const {
  while (cursor.memory < memory_.cnt && cursor.gap <= reserved_.cnt) {
    const MemblockRegion& region = memory_.regions[cursor.memory];
    if (skip(region, nid, flags)) {
      ++cursor.memory;
      continue;
    }
    const Range gap = gap_at(cursor.gap);
    out = {.start = std::max(region.base, gap.start), .end = std::min(region.end(), gap.end), .nid = region.nid};
    // The one that ends first is used up.
    if (region.end() <= gap.end) {
      ++cursor.memory;
    } else {
      ++cursor.gap;
    }
    if (out.start < out.end) return true;
  }
  return false;
}

bool Memblock::previous_free(Cursor& cursor, NodeId nid, MemblockFlags flags, Range& out) const {
  while (cursor.memory > 0 && cursor.gap > 0) {
    const MemblockRegion& region = memory_.regions[cursor.memory - 1];
    if (skip(region, nid, flags)) {
      --cursor.memory;
      continue;
    }
    const Range gap = gap_at(cursor.gap - 1);
    out = {.start = std::max(region.base, gap.start), .end = std::min(region.end(), gap.end), .nid = region.nid};
    if (region.base >= gap.start) {
      --cursor.memory;
    } else {
      --cursor.gap;
    }
    if (out.start < out.end) return true;
  }
  return false;
}

// ---- Allocation ----

Result<PhysAddr> Memblock::find_in_range(std::uint64_t size, std::uint64_t alignment, PhysAddr start, PhysAddr end,
                                         NodeId nid, MemblockFlags flags) const {
  if (end == kAccessible) end = current_limit_;
  start = std::max(start, PhysAddr(kPageSize));  // frame 0 is never given out
  end = std::max(start, end);
  Range range;
  Cursor cursor;
  if (bottom_up_) {
    while (next_free(cursor, nid, flags, range)) {
      const PhysAddr low = std::clamp(range.start, start, end);
      const PhysAddr high = std::clamp(range.end, start, end);
      const PhysAddr candidate = low.aligned_up(alignment);
      if (candidate >= low && candidate < high && high - candidate >= size) return candidate;
    }
    return std::unexpected(Error::kNoMemory);
  }
  cursor = {.memory = memory_.cnt, .gap = reserved_.cnt + 1};
  while (previous_free(cursor, nid, flags, range)) {
    const PhysAddr low = std::clamp(range.start, start, end);
    const PhysAddr high = std::clamp(range.end, start, end);
    if (high.value() < size) continue;
    const PhysAddr candidate = (high - size).aligned_down(alignment);
    if (candidate >= low) return candidate;
  }
  return std::unexpected(Error::kNoMemory);
}

Result<PhysAddr> Memblock::alloc_range_nid(std::uint64_t size, std::uint64_t alignment, PhysAddr start, PhysAddr end,
                                           NodeId nid, NodeMatch match) {
  if (alignment == 0) alignment = kDefaultAlignment;
  if (!std::has_single_bit(alignment)) return std::unexpected(Error::kInvalid);
  if (fails()) return std::unexpected(Error::kNoMemory);
  const auto take_from = [&](NodeId from, MemblockFlags flags) -> Result<PhysAddr> {
    const auto found = find_in_range(size, alignment, start, end, from, flags);
    if (!found) return found;
    if (const auto reserved = reserve(*found, size); !reserved) return std::unexpected(reserved.error());
    return found;
  };
  const auto take = [&](MemblockFlags flags) {
    auto found = take_from(nid, flags);
    if (!found && nid != kNoNode && match == NodeMatch::kPreferred) found = take_from(kNoNode, flags);
    return found;
  };
  if (has_mirror_) {
    if (const auto found = take(MemblockFlags::kMirror)) return found;
  }
  return take(MemblockFlags::kNone);
}

Result<PhysAddr> Memblock::alloc_with_wish(std::uint64_t size, std::uint64_t alignment, PhysAddr min, PhysAddr max,
                                           NodeId nid, NodeMatch match) {
  max = max == kAccessible ? current_limit_ : std::min(max, current_limit_);
  const auto found = alloc_range_nid(size, alignment, min, max, nid, match);
  if (found || min.value() == 0) return found;
  return alloc_range_nid(size, alignment, PhysAddr(0), max, nid, match);
}

Result<PhysAddr> Memblock::alloc(std::uint64_t size, std::uint64_t alignment) {
  return alloc_range(size, alignment, PhysAddr(0), kAccessible);
}

Result<PhysAddr> Memblock::alloc_range(std::uint64_t size, std::uint64_t alignment, PhysAddr start, PhysAddr end) {
  return alloc_range_nid(size, alignment, start, end, kNoNode, NodeMatch::kPreferred);
}

Result<PhysAddr> Memblock::alloc_try_nid(std::uint64_t size, std::uint64_t alignment, PhysAddr min, PhysAddr max,
                                         NodeId nid) {
  return alloc_with_wish(size, alignment, min, max, nid, NodeMatch::kPreferred);
}

Result<PhysAddr> Memblock::alloc_exact_nid(std::uint64_t size, std::uint64_t alignment, PhysAddr min, PhysAddr max,
                                           NodeId nid) {
  return alloc_with_wish(size, alignment, min, max, nid, NodeMatch::kExact);
}

// ---- Questions ----

PhysAddr Memblock::start_of_memory() const {
  return memory_.cnt == 0 ? kAnywhere : memory_.regions[0].base;
}

PhysAddr Memblock::end_of_memory() const {
  return memory_.cnt == 0 ? PhysAddr(0) : memory_.regions[memory_.cnt - 1].end();
}

bool Memblock::is_memory(PhysAddr address) const {
  return find(memory_, address) != nullptr;
}

bool Memblock::is_map_memory(PhysAddr address) const {
  const MemblockRegion* region = find(memory_, address);
  return region != nullptr && !has(region->flags, MemblockFlags::kNomap);
}

bool Memblock::is_reserved(PhysAddr address) const {
  return find(reserved_, address) != nullptr;
}

bool Memblock::is_region_memory(PhysAddr base, std::uint64_t size) const {
  const MemblockRegion* region = find(memory_, base);
  return region != nullptr && base + capped(base, size) <= region->end();
}

bool Memblock::is_region_reserved(PhysAddr base, std::uint64_t size) const {
  return overlaps(reserved_, base, size);
}

bool Memblock::is_all_reserved(PhysAddr base, std::uint64_t size) const {
  const PhysAddr end = base + capped(base, size);
  for (const MemblockRegion& region : reserved_.all()) {
    if (region.end() <= base) continue;
    if (region.base > base) break;
    base = region.end();
  }
  return base >= end;
}

bool Memblock::overlaps_memory(PhysAddr base, std::uint64_t size) const {
  return overlaps(memory_, base, size);
}

void Memblock::dump(Log& log) const {
  log.print("memblock: memory {:x} bytes, reserved {:x} bytes", memory_.total_size, reserved_.total_size);
  for (const MemblockType* type : {&memory_, &reserved_}) {
    for (std::size_t i = 0; i < type->cnt; ++i) {
      const MemblockRegion& region = type->regions[i];
      if (region.nid == kNoNode) {
        log.print("  {}[{}] [{}-{}] {:x} bytes flags {:x}", type->name, i, region.base, region.end() - 1, region.size,
                  static_cast<unsigned>(region.flags));
      } else {
        log.print("  {}[{}] [{}-{}] {:x} bytes on node {} flags {:x}", type->name, i, region.base, region.end() - 1,
                  region.size, region.nid, static_cast<unsigned>(region.flags));
      }
    }
  }
}

}  // namespace cadastre
