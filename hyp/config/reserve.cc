#include "hyp/config/reserve.hh"

#include <algorithm>
#include <utility>

#include "hyp/config/plan_check.hh"

namespace cadastre {
namespace {

constexpr std::string_view kCmaWord = "the command line's cma=";

[[nodiscard]] bool is_pool(const ReservedMemory& reserved) {
  return reserved.is_shared_dma_pool && reserved.reusable;
}

[[nodiscard]] Purpose purpose_of(const ReservedMemory& reserved) {
  if (reserved.no_map) return Purpose::kNoMap;
  return is_pool(reserved) ? Purpose::kPool : Purpose::kNode;
}

}  // namespace

bool RamReserver::take_range(std::string_view name, Purpose purpose, PhysRange range) {
  if (range.size == 0) return true;
  const auto taken = reservations_.add({.base = range.base, .size = range.size, .purpose = purpose, .name = name});
  if (!taken) {
    const Reservation& other = taken.error();
    refusals_.add("{}: {} to {} overlaps {} at {} to {}: move one of them", name, range.base, range.end(), other.name,
                  other.base, other.base + other.size);
    return false;
  }
  const MemblockFlags flags = purpose == Purpose::kPool ? MemblockFlags::kPool : MemblockFlags::kNone;
  if (memblock_.reserve(range.base, range.size, kNoNode, flags)) return true;
  refusals_.add("{}: too many ranges of memory are reserved: leave some out", name);
  return false;
}

void RamReserver::mark_no_map(const ReservedMemory& reserved) {
  if (!reserved.no_map || memblock_.set_flags(reserved.base, reserved.size, MemblockFlags::kNomap)) return;
  refusals_.add("{}: too many regions: leave some out", reserved.path.view());
}

void RamReserver::take_node(const ReservedMemory& reserved) {
  const std::string_view path = reserved.path.view();
  const PhysRange range{.base = reserved.base, .size = reserved.size};
  if (is_pool(reserved)) return add_pool(reserved.name(), path, range);
  if (take_range(path, purpose_of(reserved), range)) mark_no_map(reserved);
}

// One whose reg makes no sense is refused with the plan, and may say anything until then.
void RamReserver::take_module(const GuestModule& module) {
  if (module.is_loaded && is_sensible(module.range)) take_range(module.path.view(), Purpose::kModule, module.range);
}

void RamReserver::take(PhysRange image, PhysRange dtb, const HostDescription& host,
                       const Configuration& configuration) {
  take_range("the hypervisor's image", Purpose::kImage, image);
  take_range("the device tree", Purpose::kDeviceTree, dtb);
  for (const PhysRange& range : host.reservations) take_range("/memreserve/", Purpose::kFirmware, range);
  if (host.initrd) take_range("/chosen's initrd", Purpose::kInitrd, *host.initrd);
  for (const GuestPlan& guest : configuration.guests) {
    for (const GuestModule* module : {&guest.kernel, &guest.initrd}) take_module(*module);
  }
  for (const ReservedMemory& reserved : host.reserved_memory) {
    if (reserved.is_placed) take_node(reserved);
  }
}

// An area's pages have a migrate type, which pageblocks have, and one buddy system, which a zone has.
bool RamReserver::may_be_pool(std::string_view path, PhysRange range) {
  if (!range.base.is_aligned(kBlockSize) || range.size % kBlockSize != 0) {
    refusals_.add("{}: {} to {} is not whole blocks of 2 MiB: align its base and size", path, range.base, range.end());
    return false;
  }
  PhysAddr reached = range.base;
  for (const MemblockRegion& region : memblock_.memory().all()) {
    if (region.base <= reached && reached < region.end()) reached = region.end();
  }
  if (reached < range.end()) {
    refusals_.add("{}: {} to {} is not all in RAM: move it, or make it smaller", path, range.base, range.end());
    return false;
  }
  const auto inside = [&](PhysAddr edge) { return range.base < edge && edge < range.end(); };
  for (const PhysAddr edge : edges_) {
    if (!inside(edge)) continue;
    refusals_.add("{}: {} to {} lies on both sides of {}, where a zone ends: move it to one", path, range.base,
                  range.end(), edge);
    return false;
  }
  for (const MemblockRegion& region : memblock_.memory().all()) {
    if (!inside(region.base) && !inside(region.end())) continue;
    refusals_.add("{}: {} to {} lies on two NUMA nodes: move it to one", path, range.base, range.end());
    return false;
  }
  return true;
}

void RamReserver::add_pool(std::string_view name, std::string_view path, PhysRange range) {
  if (!take_range(path, Purpose::kPool, range) || !may_be_pool(path, range)) return;
  if (!pools_.push_back({.name = name, .range = range}))
    refusals_.add("{}: more than {} pools: leave some out", path, Pools::capacity());
}

// The highest place there is; of a pool, in one zone. It is free still.
Result<PhysAddr> RamReserver::find_place(Purpose purpose, std::uint64_t size, std::uint64_t alignment, PhysAddr start,
                                         PhysAddr end) {
  constexpr PhysAddr kTop(kPhysicalEnd);
  const auto [low, high] = edges_;
  const std::array<std::pair<PhysAddr, PhysAddr>, 3> zones = {{{high, kTop}, {low, high}, {PhysAddr(0), low}}};
  const std::array<std::pair<PhysAddr, PhysAddr>, 1> anywhere = {{{PhysAddr(0), kTop}}};
  Result<PhysAddr> found = std::unexpected(Error::kNoMemory);
  for (const auto& [from, to] : purpose == Purpose::kPool ? std::span<const std::pair<PhysAddr, PhysAddr>>(zones)
                                                          : std::span<const std::pair<PhysAddr, PhysAddr>>(anywhere)) {
    const PhysAddr first = std::max(start, from);
    const PhysAddr past = std::min(end, to);
    if (!found && first < past) found = memblock_.alloc_range(size, alignment, first, past);
  }
  if (!found) return found;
  if (const Result<> freed = memblock_.phys_free(*found, size); !freed) return std::unexpected(freed.error());
  return found;
}

void RamReserver::place_node(ReservedMemory& reserved, PhysAddr limit) {
  const std::string_view path = reserved.path.view();
  const Purpose purpose = purpose_of(reserved);
  const std::uint64_t least = purpose == Purpose::kPool ? kBlockSize : kPageSize;
  const std::uint64_t alignment = std::max(reserved.alignment, least);
  Result<PhysAddr> base = std::unexpected(Error::kNoMemory);
  if (reserved.alloc_ranges.empty()) base = find_place(purpose, reserved.size, alignment, PhysAddr(0), limit);
  for (const PhysRange& range : reserved.alloc_ranges) {
    if (!base) base = find_place(purpose, reserved.size, alignment, range.base, range.end());
  }
  if (!base) {
    refusals_.add("{}: no room for {}: make it smaller, or widen alloc-ranges", path, size_text(reserved.size).view());
    return;
  }
  reserved.base = *base;
  reserved.is_placed = true;
  take_node(reserved);
}

void RamReserver::place_from_command_line(const HostDescription& host, const CommandLine& words) {
  const auto text = words.value("cma");
  if (!text) return;
  const auto wanted = parse_placement(*text);
  const auto is_sensible_from = [&](std::uint64_t base) {
    return is_sensible({.base = PhysAddr(base), .size = wanted->size});
  };
  if (!wanted || wanted->size == 0 || wanted->size % kBlockSize != 0 || !is_sensible_from(wanted->base.value_or(0))) {
    refusals_.add("cma={}: not SIZE[@BASE[-LIMIT]] with a multiple of 2M as SIZE, as in cma=16M@1G-2G", *text);
    return;
  }
  const PhysAddr start(wanted->base.value_or(0));
  // A base without a limit is the very place.
  if (wanted->base && !wanted->limit) return add_pool("cma", kCmaWord, {.base = start, .size = wanted->size});
  const PhysAddr end = wanted->limit ? PhysAddr(*wanted->limit) : host.zone_dma_limit;
  const Result<PhysAddr> base = find_place(Purpose::kPool, wanted->size, kBlockSize, start, end);
  if (!base) {
    refusals_.add("cma={}: no such place is free: ask for less, or for another", *text);
    return;
  }
  add_pool("cma", kCmaWord, {.base = *base, .size = wanted->size});
}

void RamReserver::place(HostDescription& host, const CommandLine& words) {
  for (ReservedMemory& reserved : host.reserved_memory) {
    if (!reserved.is_placed) place_node(reserved, host.zone_dma_limit);
  }
  place_from_command_line(host, words);
}

}  // namespace cadastre
