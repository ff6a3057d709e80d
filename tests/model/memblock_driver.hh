// Does the same to a memblock and to its model, and finds them the same after each operation.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "mm/boot/memblock.hh"
#include "tests/model/choices.hh"
#include "tests/model/fake_machine.hh"
#include "tests/model/memblock_model.hh"

namespace cadastre::model {

class MemblockDriver {
 public:
  static constexpr std::size_t kMostUnits = 1024;

  explicit MemblockDriver(Decide decide)
      : decide_(std::move(decide)), units_(pick(8) == 0 ? kMostUnits : 256), machine_({{.base = 0, .size = kRam}}) {
    static_assert(kMostUnits * kUnit <= kRam);
    memblock_.set_current_limit(PhysAddr(units_ * kUnit));
    if (pick(4) != 0) memblock_.allow_resize(machine_);
    if (pick(16) == 0) memblock_.set_debug(&log_);
  }

  void step() {
    choose_range();
    static constexpr std::array kOperations = {
        &MemblockDriver::add,       &MemblockDriver::add,       &MemblockDriver::remove,   &MemblockDriver::reserve,
        &MemblockDriver::reserve,   &MemblockDriver::phys_free, &MemblockDriver::set_node, &MemblockDriver::set_flags,
        &MemblockDriver::phys_free, &MemblockDriver::allocate,  &MemblockDriver::allocate, &MemblockDriver::allocate,
        &MemblockDriver::comb,      &MemblockDriver::cut,       &MemblockDriver::ask,      &MemblockDriver::settings};
    (this->*kOperations[pick(kOperations.size())])();
    compare();
  }

 private:
  using Unit = MemblockModel::Unit;
  static constexpr std::uint64_t kUnit = MemblockModel::kUnit;
  static constexpr std::size_t kUnitsPerPage = MemblockModel::kUnitsPerPage;
  static constexpr std::uint64_t kRam = std::uint64_t{4} << 20U;

  class AnyLine final : public Log {
   public:
    void write_line(std::string_view line) override { require(!line.empty(), "an empty line in the log"); }
  };
  // Where memblock keeps one of its lists, once it has doubled.
  struct Array {
    const MemblockRegion* regions = nullptr;
    std::size_t first = 0;
    std::size_t count = 0;
  };

  std::size_t pick(std::size_t below) { return static_cast<std::size_t>(decide_(below)); }

  void choose_range() {
    at_ = pick(units_);
    const std::size_t left = units_ - at_;
    count_ = pick(4) == 0 ? pick(left + 1) : std::min(left, pick(24));
    nid_ = pick(4) == 0 ? kNoNode : static_cast<NodeId>(pick(3));
  }
  PhysAddr base() const { return PhysAddr(at_ * kUnit); }
  std::uint64_t size() const { return count_ * kUnit; }
  // Now and then up to the top of the address space, and as if beyond it.
  std::uint64_t size_to_wrap() {
    if (pick(16) != 0) return size();
    count_ = units_ - at_;
    return ~std::uint64_t{0} - pick(2) * base().value();
  }
  MemblockFlags choose_flags() {
    static constexpr std::array kFlags = {MemblockFlags::kNone, MemblockFlags::kHotplug, MemblockFlags::kMirror,
                                          MemblockFlags::kNomap};
    // Mirrored memory is preferred for ever after: not in every run.
    const MemblockFlags flags = kFlags[pick(kFlags.size())];
    if (flags == MemblockFlags::kMirror) {
      if (pick(16) != 0) return MemblockFlags::kNone;
      has_mirror_ = true;
    }
    return flags;
  }
  template <class Change>
  void each(Change change) {
    for (std::size_t i = at_; i < at_ + count_; ++i) change(model_.units()[i]);
  }
  // Would the range take what memblock itself needs?
  bool hits_arrays() const {
    return std::ranges::any_of(
        arrays_, [&](const Array& array) { return array.first < at_ + count_ && at_ < array.first + array.count; });
  }
  // Did it work? It may fail when the list is full, but then nothing has changed. Lists have doubled before anything
  // else happened.
  bool worked(const Result<>& result, const MemblockType& type, std::size_t cnt, std::size_t parts) {
    follow_arrays();
    if (result) return true;
    require(result.error() == Error::kNoMemory, "the wrong error");
    require(cnt + parts > type.max, "a list failed that has room");
    return false;
  }

  // ---- Operations

  void add() {
    const MemblockFlags flags = choose_flags();
    const std::size_t cnt = memblock_.memory().cnt;
    if (!worked(memblock_.add(base(), size(), nid_, flags), memblock_.memory(), cnt, count_)) return;
    each([&](Unit& unit) {
      if (!unit.memory) unit = {true, flags, nid_, unit.reserved, unit.reserved_flags, unit.reserved_nid};
    });
  }
  void remove() {
    const std::uint64_t bytes = size_to_wrap();
    const std::size_t cnt = memblock_.memory().cnt;
    if (!worked(memblock_.remove(base(), bytes), memblock_.memory(), cnt, 2)) return;
    each([](Unit& unit) {
      unit = {false, MemblockFlags::kNone, kNoNode, unit.reserved, unit.reserved_flags, unit.reserved_nid};
    });
  }
  void reserve() {
    const MemblockFlags flags = pick(8) == 0 ? MemblockFlags::kHotplug : MemblockFlags::kNone;
    const std::size_t cnt = memblock_.reserved().cnt;
    if (worked(memblock_.reserve(base(), size(), nid_, flags), memblock_.reserved(), cnt, count_)) {
      mark_reserved(at_, count_, nid_, flags);
    }
  }
  void mark_reserved(std::size_t first, std::size_t count, NodeId nid, MemblockFlags flags) {
    for (std::size_t i = first; i < first + count; ++i) {
      Unit& unit = model_.units()[i];
      if (unit.reserved) continue;
      unit.reserved = true;
      unit.reserved_nid = nid;
      unit.reserved_flags = flags;
    }
  }
  void phys_free() {
    const bool by_pointer = pick(4) == 0 && count_ != 0;
    const std::uint64_t bytes = by_pointer ? size() : size_to_wrap();
    if (hits_arrays()) return;
    const std::size_t cnt = memblock_.reserved().cnt;
    const Result<> freed =
        by_pointer ? memblock_.free(machine_, machine_.linear(base()), bytes) : memblock_.phys_free(base(), bytes);
    bool is_all_reserved = true;
    each([&](const Unit& unit) { is_all_reserved = is_all_reserved && unit.reserved; });
    if (by_pointer && !is_all_reserved) {
      require(!freed && freed.error() == Error::kCorrupt, "what was not allocated was freed");
      return;
    }
    if (worked(freed, memblock_.reserved(), cnt, 2)) each([](Unit& unit) { unit.reserved = false; });
  }
  void set_node() {
    const std::uint64_t bytes = size_to_wrap();
    if (pick(2) == 0 && !hits_arrays()) {
      const std::size_t cnt = memblock_.reserved().cnt;
      if (!worked(memblock_.set_reserved_node(base(), bytes, nid_), memblock_.reserved(), cnt, 2)) return;
      each([&](Unit& unit) {
        if (unit.reserved) unit.reserved_nid = nid_;
      });
      return;
    }
    const std::size_t cnt = memblock_.memory().cnt;
    if (!worked(memblock_.set_node(base(), bytes, nid_), memblock_.memory(), cnt, 2)) return;
    each([&](Unit& unit) {
      if (unit.memory) unit.nid = nid_;
    });
  }
  void set_flags() {
    const MemblockFlags flags = choose_flags();
    const bool set = pick(3) == 0;
    const std::uint64_t bytes = size_to_wrap();
    const std::size_t cnt = memblock_.memory().cnt;
    const Result<> done = set ? memblock_.set_flags(base(), bytes, flags) : memblock_.clear_flags(base(), bytes, flags);
    if (!worked(done, memblock_.memory(), cnt, 2)) return;
    each([&](Unit& unit) {
      if (unit.memory) unit.flags = set ? unit.flags | flags : without(unit.flags, flags);
    });
  }
  // Many ranges, so that lists fill and double.
  void comb() {
    const bool reserved = pick(2) == 0;
    const std::size_t end = at_ + count_;
    count_ = 1;
    for (; at_ < end; at_ += 2) {
      reserved ? reserve() : add();
      compare();
    }
  }

  // Less memory: whole multiples, the lowest, or a part of it.
  void cut() {
    if (pick(4) != 0 || has_arrays() || is_full(memblock_.memory()) || is_full(memblock_.reserved())) return;
    switch (pick(3)) {
      case 0:
        trim(std::size_t{1} << pick(4));
        break;
      case 1:
        limit();
        break;
      default:
        cap();
        break;
    }
  }
  static bool is_full(const MemblockType& type) { return type.cnt + 2 > type.max; }
  bool has_arrays() const { return arrays_[0].count + arrays_[1].count != 0; }
  void trim(std::size_t alignment) {
    memblock_.trim_memory(alignment * kUnit);
    const auto before = model_.units();
    const MemblockModel old = model_;
    for (std::size_t first = 0; first < units_;) {
      std::size_t end = first + 1;
      while (end < units_ && old.same_memory(first, end)) ++end;
      if (before[first].memory) {
        const std::size_t start = (first + alignment - 1) / alignment * alignment;
        for (std::size_t i = first; i < end; ++i) {
          if (i < start || i >= end / alignment * alignment) model_.units()[i].memory = false;
        }
      }
      first = end;
    }
  }
  void limit() {
    require(memblock_.enforce_memory_limit(size()).has_value(), "a limit failed");
    if (count_ == 0) return;
    // Past the unit that the limit is reached with; everything when there is less than that.
    std::size_t end = 0;
    std::size_t left = count_;
    for (; end < units_ && left != 0; ++end) left -= model_.units()[end].memory ? 1 : 0;
    if (left != 0) return;
    for (std::size_t i = end; i < units_; ++i) model_.units()[i].memory = model_.units()[i].reserved = false;
  }
  void cap() {
    require(memblock_.cap_memory_range(base(), size_to_wrap()).has_value(), "a cap failed");
    // What it split at the edges may be alike: that is joined with the next change.
    require(memblock_.clear_flags(PhysAddr(0), 0, MemblockFlags::kNone).has_value(), "a change of nothing failed");
    if (count_ == 0 || std::ranges::none_of(model_.units(), &Unit::memory)) return;
    for (std::size_t i = 0; i < units_; ++i) {
      if (i >= at_ && i < at_ + count_) continue;
      Unit& unit = model_.units()[i];
      unit.reserved = false;
      if (!has(unit.flags, MemblockFlags::kNomap)) unit.memory = false;
    }
  }

  void settings() {
    model_.bottom_up = pick(2) == 0;
    memblock_.set_bottom_up(model_.bottom_up);
    require(memblock_.bottom_up() == model_.bottom_up, "bottom-up is not as set");
    model_.avoid_hotplug = pick(2) == 0;
    memblock_.set_avoid_hotplug(model_.avoid_hotplug);
    const std::size_t limit = pick(2) == 0 ? units_ : at_;
    memblock_.set_current_limit(PhysAddr(limit * kUnit));
    limit_ = limit;
    memblock_.dump(log_);
  }

  // ---- Allocation

  using Request = MemblockModel::Request;
  std::optional<std::size_t> expect(Request request, bool any_node_will_do) const {
    for (const MemblockFlags flags : {MemblockFlags::kMirror, MemblockFlags::kNone}) {
      if (flags == MemblockFlags::kMirror && !has_mirror_) continue;
      request.flags = flags;
      if (const auto found = model_.find(request)) return found;
      Request anywhere = request;
      anywhere.nid = kNoNode;
      if (!any_node_will_do) continue;
      if (const auto found = model_.find(anywhere)) return found;
    }
    return std::nullopt;
  }
  // The lowest address is a wish.
  std::optional<std::size_t> expect_with_wish(Request request, bool any_node_will_do) const {
    request.end = std::min(request.end, limit_);
    if (const auto found = expect(request, any_node_will_do)) return found;
    request.start = 0;
    return expect(request, any_node_will_do);
  }

  void allocate() {
    Request request{.count = 1 + pick(20), .alignment = std::size_t{1} << pick(6), .start = at_, .end = at_ + count_};
    const std::uint64_t bytes = request.count * kUnit;
    std::uint64_t alignment = request.alignment * kUnit;
    if (request.alignment == 1 && pick(2) == 0) alignment = 0;  // a cache line
    if (pick(64) == 0) return refuse(bytes);
    const std::size_t cnt = memblock_.reserved().cnt;
    const std::size_t max = memblock_.reserved().max;
    std::optional<std::size_t> expected;
    bool is_exact = false;
    Result<PhysAddr> got = std::unexpected(Error::kInvalid);
    if (request.end == 0) request.end = limit_;
    const PhysAddr start(request.start * kUnit);
    const PhysAddr end(request.end * kUnit);
    switch (pick(5)) {
      case 0:
        request.start = 0;
        request.end = limit_;
        expected = expect(request, false);
        if (limit_ != 0) got = memblock_.alloc(bytes, alignment);
        break;
      case 1:
        expected = expect(request, false);
        if (end == Memblock::kAccessible) return;
        got = memblock_.alloc_range(bytes, alignment, start, end);
        break;
      case 2:
        request.nid = nid_;
        expected = expect_with_wish(request, true);
        if (end == Memblock::kAccessible || limit_ == 0) return;
        got = memblock_.alloc_try_nid(bytes, alignment, start, end, nid_);
        break;
      case 3:
        request.nid = nid_;
        is_exact = true;
        expected = expect_with_wish(request, false);
        if (end == Memblock::kAccessible || limit_ == 0) return;
        got = memblock_.alloc_exact_nid(bytes, alignment, start, end, nid_);
        break;
      default:
        request.start = 0;
        request.end = limit_;
        request.nid = nid_;
        expected = expect_with_wish(request, true);
        if (limit_ != 0) got = alloc_zeroed(static_cast<std::size_t>(bytes), static_cast<std::size_t>(alignment));
        break;
    }
    check_allocation(got, expected, request, is_exact, cnt + 1 > max);
  }
  Result<PhysAddr> alloc_zeroed(std::size_t bytes, std::size_t alignment) {
    const auto memory = memblock_.alloc_zeroed(machine_, bytes, alignment, nid_);
    if (!memory) return std::unexpected(memory.error());
    require(std::all_of(*memory, *memory + bytes, [](std::byte b) { return b == std::byte{0}; }), "it is not zeroed");
    return machine_.linear_address(*memory);
  }
  void check_allocation(const Result<PhysAddr>& got, std::optional<std::size_t> expected, const Request& request,
                        bool is_exact, bool is_full) {
    follow_arrays();
    if (!got) {
      require(!expected || is_full || limit_ == 0, "an allocation failed that has a place");
      return;
    }
    if (!expected) throw Violation{"an allocation that should have failed"};
    const auto place = static_cast<std::size_t>(got->value() / kUnit);
    // A list that is full doubles first, and not into what is about to be reserved: when that is the only room, the next
    // best place is tried, such as one that is not mirrored.
    require(place == *expected || (is_full && is_free(place, request, is_exact ? request.nid : kNoNode)),
            "an allocation from the wrong place");
    mark_reserved(place, request.count, kNoNode, MemblockFlags::kNone);
    std::memset(machine_.linear(*got), 0xa5, request.count * kUnit);
  }
  bool is_free(std::size_t first, const Request& request, NodeId nid) const {
    if (first % request.alignment != 0 || first + request.count > std::min(request.end, units_)) return false;
    for (std::size_t i = first; i < first + request.count; ++i) {
      if (!model_.is_free(i, nid, MemblockFlags::kNone)) return false;
    }
    return true;
  }
  void refuse(std::uint64_t bytes) {
    const auto refused = memblock_.alloc(bytes, 3 * kUnit);
    require(!refused && refused.error() == Error::kInvalid, "an alignment that is no power of two");
  }

  // ---- Questions

  void ask() {
    const auto& units = model_.units();
    const auto is_memory = [](const Unit& unit) { return unit.memory; };
    const auto is_reserved = [](const Unit& unit) { return unit.reserved; };
    const Unit& unit = units[at_];
    require(memblock_.is_memory(base()) == unit.memory, "is_memory");
    require(memblock_.is_map_memory(base() + (kUnit - 1)) == (unit.memory && !has(unit.flags, MemblockFlags::kNomap)),
            "is_map_memory");
    require(memblock_.is_reserved(base()) == unit.reserved, "is_reserved");
    const auto first = units.begin() + static_cast<std::ptrdiff_t>(at_);
    const auto past = first + static_cast<std::ptrdiff_t>(count_);
    if (count_ != 0) {
      bool whole = unit.memory;
      for (std::size_t i = at_; i < at_ + count_; ++i) whole = whole && model_.same_memory(at_, i);
      require(memblock_.is_region_memory(base(), size()) == whole, "is_region_memory");
      require(memblock_.is_region_reserved(base(), size()) == std::any_of(first, past, is_reserved),
              "is_region_reserved");
      require(memblock_.overlaps_memory(base(), size()) == std::any_of(first, past, is_memory), "overlaps_memory");
    }
    std::size_t lowest = 0;
    while (lowest < units_ && !units[lowest].memory) ++lowest;
    std::size_t end = units_;
    while (end != 0 && !units[end - 1].memory) --end;
    require(memblock_.start_of_memory() == (end == 0 ? Memblock::kAnywhere : PhysAddr(lowest * kUnit)),
            "start_of_memory");
    require(memblock_.end_of_memory() == PhysAddr(end * kUnit), "end_of_memory");
    ask_for_free(pick(2) == 0 ? kNoNode : nid_, pick(2) == 0 ? MemblockFlags::kNone : MemblockFlags::kNomap);
  }
  void ask_for_free(NodeId nid, MemblockFlags flags) {
    std::size_t at = 0;
    const auto next = [&](PhysAddr start, PhysAddr end, NodeId of) {
      while (at < units_ && !model_.is_free(at, nid, flags)) ++at;
      const std::size_t first = at;
      while (at < units_ && model_.is_free(at, nid, flags) && model_.same_memory(first, at)) ++at;
      require(at != first && start.value() == first * kUnit && end.value() == at * kUnit, "a wrong free range");
      require(of == model_.units()[first].nid, "a free range of the wrong node");
    };
    memblock_.for_each_free_range(nid, flags, next);
    while (at < units_ && !model_.is_free(at, nid, flags)) ++at;
    require(at == units_, "a free range was left out");
    std::size_t downwards = units_;
    memblock_.for_each_free_range_reverse(nid, flags, [&](PhysAddr start, PhysAddr end, NodeId of) {
      while (downwards != 0 && !model_.is_free(downwards - 1, nid, flags)) --downwards;
      const std::size_t past = downwards;
      while (downwards != 0 && model_.is_free(downwards - 1, nid, flags) &&
             model_.same_memory(past - 1, downwards - 1)) {
        --downwards;
      }
      require(downwards != past && start.value() == downwards * kUnit && end.value() == past * kUnit,
              "a wrong free range, downwards");
      require(of == model_.units()[downwards].nid, "a free range of the wrong node, downwards");
    });
    while (downwards != 0 && !model_.is_free(downwards - 1, nid, flags)) --downwards;
    require(downwards == 0, "a free range was left out, downwards");
  }

  // ---- What must hold after each operation

  void compare() const {
    require(model_.agrees(memblock_.memory(), false), "memory is not what it should be");
    require(model_.agrees(memblock_.reserved(), true), "reserved is not what it should be");
  }
  void follow_arrays() {
    follow_array(memblock_.memory(), arrays_[0]);
    follow_array(memblock_.reserved(), arrays_[1]);
  }
  // A list that doubled lies in memory that was free, which is reserved now.
  void follow_array(const MemblockType& type, Array& array) {
    if (initial_[static_cast<std::size_t>(&array - arrays_.data())] == type.regions || array.regions == type.regions)
      return;
    const auto bytes = type.max * sizeof(MemblockRegion);
    const Array now{.regions = type.regions,
                    .first = static_cast<std::size_t>(machine_.linear_address(type.regions).value() / kUnit),
                    .count = (bytes + kPageSize - 1) / kPageSize * kUnitsPerPage};
    for (std::size_t i = array.first; i < array.first + array.count; ++i) model_.units()[i].reserved = false;
    for (std::size_t i = now.first; i < now.first + now.count; ++i) {
      require(model_.is_free(i, kNoNode, MemblockFlags::kNone), "a list doubled into what is not free");
    }
    mark_reserved(now.first, now.count, kNoNode, MemblockFlags::kNone);
    array = now;
  }

  Decide decide_;
  std::size_t units_;
  std::size_t limit_ = units_;
  FakeMachine machine_;
  AnyLine log_;
  Memblock memblock_;
  MemblockModel model_{units_};
  std::array<Array, 2> arrays_;
  std::array<const MemblockRegion*, 2> initial_{memblock_.memory().regions, memblock_.reserved().regions};
  bool has_mirror_ = false;
  std::size_t at_ = 0;
  std::size_t count_ = 0;
  NodeId nid_ = kNoNode;
};

}  // namespace cadastre::model
