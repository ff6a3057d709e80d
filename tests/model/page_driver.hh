// Random users of a page allocator: the hypervisor on several CPUs, a guest whose pages can be moved, devices with a CMA
// area, a shrinker. What each of them knows to be its own is held against what the allocator gives out.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "mm/frames/cma.hh"
#include "mm/frames/ownership.hh"
#include "mm/frames/page_allocator.hh"
#include "tests/model/buddy_model.hh"
#include "tests/model/choices.hh"
#include "tests/model/fake_machine.hh"

namespace cadastre::model {

class PageDriver final : private Migrator, private OtherCpus, private Shrinker {
 public:
  enum class Emphasis : std::uint8_t { kPages, kRanges };  // the second: exact ranges, isolation and CMA

  PageDriver(Decide decide, Emphasis emphasis)
      : decide_(std::move(decide)),
        emphasis_(emphasis),
        machine_({{.base = kBase, .size = kLocal}, {.base = 3 * kGiB, .size = kRemote, .nid = 1}},
                 PhysAddr(kBase + 16 * kMiB)),
        pages_(machine_) {
    set_up();
  }
  ~PageDriver() { FakeMachine::current_cpu = 0; }
  PageDriver(const PageDriver&) = delete;
  PageDriver& operator=(const PageDriver&) = delete;

  void step() {
    FakeMachine::current_cpu = cpu_ = static_cast<unsigned>(pick(kCpus));
    if (has_faults_ && pick(8) == 0) fault_.arm(static_cast<std::uint32_t>(pick(4)));
    if (emphasis_ == Emphasis::kRanges && pick(3) == 0) {
      range_operation();
    } else {
      page_operation();
    }
    fault_.disarm();
    if (++steps_ % 64 == 0) audit();
  }

  // Everything comes back, and nothing is lost.
  void finish() {
    refuse_to_move_ = false;
    for (const auto& [first, count] : isolated_) pages_.unisolate(pfn(first), pfn(first) + count);
    isolated_.clear();
    while (!held_.empty()) give_back(held_.begin()->first);
    drain_all();
    audit();
    require(model_.free_frames() == all_free_, "the model lost frames");
    require(pages_.free_frames() == all_free_, "frames were lost");
  }

 private:
  static constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;
  static constexpr std::uint64_t kGiB = std::uint64_t{1} << 30U;
  static constexpr std::uint64_t kBase = kGiB;
  static constexpr std::uint64_t kLocal = 20 * kMiB;  // DMA to 4 MiB, NORMAL to 16 MiB, the rest HIGHMEM
  static constexpr std::uint64_t kRemote = 4 * kMiB;  // HIGHMEM
  static constexpr std::uint64_t kAreaBase = kBase + 10 * kMiB;
  static constexpr std::uint32_t kAreaPages = 4 * kMiB / kPageSize;
  static constexpr std::uint64_t kLateBase = kBase + 5 * kMiB;  // reserved at first
  static constexpr std::uint32_t kLatePages = 37;
  static constexpr unsigned kCpus = 4;
  static constexpr OwnerId kGuest = 7;

  enum class Kind : std::uint8_t { kHyp, kHoard, kGuest, kExact, kPinned, kCma };
  struct Held {
    Kind kind = Kind::kHyp;
    std::uint32_t count = 1;
    unsigned order = 0;  // of blocks
    std::uint32_t stamp = 0;
  };
  using Blocks = std::map<FrameIndex, Held>;

  void set_up() {
    require(memblock_.add(PhysAddr(kBase), kLocal, 0) && memblock_.add(PhysAddr(3 * kGiB), kRemote, 1) &&
                memblock_.reserve(PhysAddr(kAreaBase), kAreaPages * kPageSize, kNoNode, MemblockFlags::kPool) &&
                memblock_.reserve(PhysAddr(kLateBase), kLatePages * kPageSize),
            "memblock");
    memblock_.set_current_limit(address_of(machine_.high_memory()));
    require(pages_.init(memblock_, {.dma_limit = PhysAddr(kBase + 4 * kMiB)}).has_value(), "init failed");
    pages_.release(memblock_);
    pages_.set_cpu_node(1, 1);
    memblock_.for_each_free_range(kNoNode, MemblockFlags::kNone, [&](PhysAddr start, PhysAddr end, NodeId) {
      const Pfn first = frame_of(start.aligned_up(kPageSize));
      model_.release(index(first), frame_of(end) - first);
    });
    const auto order_per_bit = static_cast<unsigned>(pick(3));
    if (emphasis_ == Emphasis::kRanges) {
      require(area_.init("area", pages_, frame_of(PhysAddr(kAreaBase)), kAreaPages, order_per_bit, bitmap_).has_value(),
              "no area");
      unit_ = 1U << order_per_bit;
      model_.release(index(area_.base()), kAreaPages);
    }
    all_free_ = model_.free_frames();
    pages_.set_migrator(this);
    pages_.shrinkers().add(*this);
    pages_.set_other_cpus(this);
    switch (pick(16)) {
      case 0:
        pages_.set_poison(is_poisoned_ = true);
        break;
      case 1:
        history_.resize(pages_.frames().count());
        pages_.set_history(history_);
        break;
      case 2:
      case 3:
        has_faults_ = true;
        pages_.set_fault_injector(&fault_);
        break;
      default:
        break;
    }
  }

  std::size_t pick(std::size_t below) { return static_cast<std::size_t>(decide_(below)); }
  FrameIndex index(Pfn page) const { return frames_.index_of(page); }
  Pfn pfn(FrameIndex frame) const { return frames_.pfn_of(frame); }
  bool is_area(FrameIndex frame) const { return unit_ != 0 && area_.contains(pfn(frame)); }
  void drain() override { drain_all(); }
  void wait() override {}
  void drain_all() {
    for (unsigned cpu = 0; cpu < kCpus; ++cpu) pages_.drain(cpu);
  }
  bool is_isolated(FrameIndex frame) const {
    return std::ranges::any_of(isolated_, [&](const auto& range) {
      const FrameIndex first = range.first / kPagesPerBlock * kPagesPerBlock;
      const FrameIndex past = (range.first + range.second + kPagesPerBlock - 1) / kPagesPerBlock * kPagesPerBlock;
      return frame >= first && frame < past;
    });
  }

  // ---- What pages hold: the first and the last word of each page of a guest's, of the first and last page of others'

  std::uint32_t& word(FrameIndex page, std::size_t offset) {
    return *reinterpret_cast<std::uint32_t*>(machine_.bytes_at(address_of(pfn(page))) + offset);
  }
  template <class Use>
  void each_stamp(FrameIndex first, const Held& held, Use use) {
    const std::uint32_t step = held.kind == Kind::kGuest || held.count == 1 ? 1 : held.count - 1;
    for (std::uint32_t i = 0; i < held.count; i += step) {
      use(word(first + i, 0), held.stamp + i);
      use(word(first + i, kPageSize - 4), ~(held.stamp + i));
    }
  }
  void hold(FrameIndex first, Held held) {
    held.stamp = stamp_;
    stamp_ += held.count;
    each_stamp(first, held, [](std::uint32_t& at, std::uint32_t value) { at = value; });
    held_[first] = held;
  }
  void check_contents(FrameIndex first, const Held& held) {
    each_stamp(first, held, [](const std::uint32_t& at, std::uint32_t value) {
      require(at == value, "somebody else wrote to an allocated page");
    });
  }
  void check_zero(FrameIndex first, const Held& held, const char* what) {
    each_stamp(first, held, [&](const std::uint32_t& at, std::uint32_t) { require(at == 0, what); });
  }

  // ---- Pages

  void page_operation() {
    const std::size_t choice = pick(100);
    const std::size_t bound = growing() ? 52 : 36;
    if (choice < bound) {
      allocate();
    } else if (choice < 90) {
      free_some();
    } else if (choice < 95) {
      free_wrongly();
    } else if (choice < 97) {
      pages_.drain(cpu_);
    } else if (choice < 98) {
      pages_.balance(cpu_);
    } else if (choice < 99) {
      share();
    } else {
      rarely();
    }
  }
  bool growing() const { return steps_ / 512 % 2 == 0; }

  void allocate() {
    static constexpr std::array kFlags = {
        AllocFlags{}, kHighmem | kMovable,  kDma,    kReclaimable, kHighmem | kMovable, kMovable, kAtomic,
        kHighmem,     kHighmem | kThisNode, kNoRetry};
    AllocFlags flags = kFlags[pick(kFlags.size())] | kNoWarn;
    if (pick(8) == 0) flags = flags | kCold;
    if (pick(8) == 0) flags = flags | kZero;
    const unsigned order = choose_order();
    auto block = pages_.alloc(order, flags);
    if (!block) {
      require(block.error() == Error::kNoMemory, "the wrong error");
      if (pick(4) != 0 || !must_fit(order, flags)) return;
      drain_all();
      fault_.disarm();
      block = pages_.alloc(order, flags);
      require(block.has_value(), "a request failed that has room");
    }
    take_over(index(*block), order, flags);
  }
  // Mostly single pages, else small blocks, and now and then whole sections.
  unsigned choose_order() {
    if (pick(4) != 0) return 0;
    if (pick(12) == 0) return kMaxOrder;
    return static_cast<unsigned>(std::min(pick(kMaxOrder + 1), pick(kMaxOrder + 1)));
  }
  void take_over(FrameIndex block, unsigned order, AllocFlags flags) {
    require(block % (1U << order) == 0 && model_.take(block, 1U << order), "memory was given out twice");
    check_place(block, flags);
    Held held{.kind = flags.has(kMovable) ? Kind::kGuest : Kind::kHyp, .count = 1U << order, .order = order};
    if (flags.has(kZero)) check_zero(block, held, "it is not zeroed");
    if (held.kind == Kind::kHyp && order == 0 && pick(4) == 0) held.kind = Kind::kHoard;
    const bool lent = frames_[block].state() == FrameState::kCmaLent;
    require(lent == (is_area(block) && held.kind == Kind::kGuest), "CMA memory in the wrong state");
    if (held.kind == Kind::kGuest) require(ownership_.give(pfn(block), kGuest, Gfn(stamp_)).has_value(), "give failed");
    hold(block, held);
  }
  void check_place(FrameIndex block, AllocFlags flags) {
    const Zone& zone = pages_.zone_of(block);
    require(zone.kind() <= highest(flags), "memory from a zone that is out of reach");
    require(!flags.has(kThisNode) || zone.nid() == pages_.cpu_node(cpu_), "memory from another node");
    require(!is_area(block) || flags.has(kMovable), "CMA memory for what does not move");
    require(!is_isolated(block), "isolated memory was given out");
  }
  static ZoneKind highest(AllocFlags flags) {
    if (flags.has(kDma)) return ZoneKind::kDma;
    return flags.has(kHighmem) ? ZoneKind::kHighmem : ZoneKind::kNormal;
  }
  // Is there a zone above its mark with a place for it, once no CPU keeps pages back?
  bool must_fit(unsigned order, AllocFlags flags) {
    if (order > kPageblockOrder) return false;
    std::array<std::uint32_t, kMaxZones> free{};
    std::array<bool, kMaxZones> has_place{};
    for (FrameIndex block = 0; block < model_.frames(); block += kPagesPerBlock) {
      if (is_isolated(block) || (is_area(block) && !flags.has(kMovable))) continue;
      const Zone& zone = pages_.zone_of(block);
      const auto id = zone.nid() * kZoneKinds + static_cast<unsigned>(zone.kind());
      for (FrameIndex i = block; i < block + kPagesPerBlock; ++i) free[id] += model_.is_free(i) ? 1 : 0;
      for (FrameIndex i = block; i < block + kPagesPerBlock && !has_place[id]; i += 1U << order) {
        has_place[id] = model_.is_free(i, 1U << order);
      }
    }
    for (NodeId nid = 0; nid < 2; ++nid) {
      for (unsigned kind = 0; kind <= static_cast<unsigned>(highest(flags)); ++kind) {
        const Zone& zone = pages_.zone(nid, static_cast<ZoneKind>(kind));
        const unsigned id = nid * kZoneKinds + kind;
        if (flags.has(kThisNode) && nid != pages_.cpu_node(cpu_)) continue;
        const std::uint32_t kept = zone.watermarks().min + zone.reserve(highest(flags));
        if (has_place[id] && free[id] >= kept + (1U << order)) return true;
      }
    }
    return false;
  }

  Blocks::iterator choose_held() {
    auto one = held_.lower_bound(static_cast<FrameIndex>(pick(model_.frames())));
    return one == held_.end() ? held_.begin() : one;
  }
  void free_some() {
    if (!held_.empty()) give_back(choose_held()->first);
  }
  void give_back(FrameIndex first) {
    const Held held = held_.at(first);
    check_contents(first, held);
    held_.erase(first);
    model_.release(first, held.count);
    switch (held.kind) {
      case Kind::kExact:
      case Kind::kPinned:
        require(pages_.free_contig_range(pfn(first), pfn(first) + held.count).has_value(), "a range was not freed");
        break;
      case Kind::kCma:
        require(area_.release(cpu_, pfn(first), held.count).has_value(), "an area refused its own");
        break;
      default:
        pages_.free(pfn(first), held.order, pick(8) == 0 ? kCold : AllocFlags{});
        break;
    }
    const bool secret = held.kind != Kind::kHyp && held.kind != Kind::kHoard && held.kind != Kind::kExact;
    if (secret && !is_poisoned_) check_zero(first, held, "what was in a page can still be read");
  }
  void free_wrongly() {
    const std::uint32_t bad = pages_.bad_frames();
    Pfn page(static_cast<std::uint32_t>(pick(256)));  // no RAM
    unsigned order = 0;
    const auto frame = static_cast<FrameIndex>(pick(model_.frames()));
    if (pick(2) == 0 && model_.is_free(frame)) {
      page = pfn(frame);
    } else if (!held_.empty()) {
      const auto [first, held] = *choose_held();
      page = pfn(first);
      order = held.order + 1;
      if (held.kind == Kind::kPinned || held.kind == Kind::kCma) {
        order = 0;
      } else if (held.kind == Kind::kExact) {
        order = 1;
      } else if (held.count > 1 && pick(2) == 0) {
        page += 1 + static_cast<std::uint32_t>(pick(held.count - 1));
        order = held.order;
      }
    }
    const Result<> freed = pages_.try_free(page, order);
    require(!freed && freed.error() == Error::kCorrupt, "a wrong free was not refused");
    require(pages_.bad_frames() == bad + 1, "a wrong free was not counted");
    bad_ = bad + 1;
  }
  // A page of several guests' is not freed by one of them.
  void share() {
    if (held_.empty()) return;
    const auto [first, held] = *choose_held();
    if (held.kind != Kind::kGuest || frames_[first].state() != FrameState::kGuest) return;
    require(ownership_.change(pfn(first), FrameState::kGuestShared) && ownership_.get(pfn(first)), "sharing failed");
    const Result<> freed = pages_.try_free(pfn(first), held.order);
    require(!freed && freed.error() == Error::kCorrupt, "a shared page was freed");
    bad_ = pages_.bad_frames();
    require(*ownership_.put(pfn(first)) == 1, "a wrong count of sharers");
    require(ownership_.change(pfn(first), FrameState::kGuest).has_value(), "unsharing failed");
  }
  void rarely() {
    if (!adopted_) {
      adopted_ = true;
      pages_.adopt(frame_of(PhysAddr(kLateBase)), frame_of(PhysAddr(kLateBase)) + kLatePages);
      model_.release(index(frame_of(PhysAddr(kLateBase))), kLatePages);
      all_free_ += kLatePages;
    }
    pages_.print_zones(log_);
    pages_.print_buddyinfo(log_);
    pages_.print_pagetypeinfo(log_);
    require(log_.lines != 0, "no report");
  }

  // ---- Ranges

  void range_operation() {
    refuse_to_move_ = pick(8) == 0;
    switch (pick(8)) {
      case 0:
        return exact_range();
      case 1:
        return free_part();
      case 2:
        return isolated_.empty() || pick(3) == 0 ? isolate() : unisolate();
      default:
        return pick(2) == 0 ? area_alloc() : area_release();
    }
  }
  // All of one zone, and nothing but free memory outside of what is isolated?
  bool is_easy(FrameIndex first, std::uint32_t count) {
    if (first + count > model_.frames() || !model_.is_free(first, count)) return false;
    if (&pages_.zone_of(first) != &pages_.zone_of(first + count - 1)) return false;
    for (FrameIndex i = first; i < first + count; ++i) {
      if (is_isolated(i)) return false;
    }
    return true;
  }
  void exact_range() {
    const auto first = static_cast<FrameIndex>(pick(model_.frames()));
    const auto count = static_cast<std::uint32_t>(pick(pick(4) == 0 ? 1300 : 40));
    const bool pinned = pick(2) == 0;
    bool touches_area = false;
    for (FrameIndex i = first / kPagesPerBlock * kPagesPerBlock; i < std::min(first + count, model_.frames()); ++i) {
      touches_area = touches_area || is_area(i);
    }
    const bool easy = count != 0 && is_easy(first, count) && (pinned || !touches_area);
    moving_from_ = {first / kPagesPerBlock * kPagesPerBlock, first + count};
    const Result<> taken =
        pages_.alloc_contig_range(pfn(first), pfn(first) + count, pinned ? FrameState::kDmaPinned : FrameState::kHyp);
    moving_from_ = {};
    if (!taken) {
      require(!easy || has_faults_, "a range that is free was refused");
      require(count != 0 || taken.error() == Error::kInvalid, "the wrong error");
      return;
    }
    require(count != 0, "a range of nothing was given out");
    require(pinned || !touches_area, "the hypervisor was given a CMA area's memory");
    claim(first, {.kind = pinned ? Kind::kPinned : Kind::kExact, .count = count});
  }
  void claim(FrameIndex first, const Held& held) {
    require(model_.take(first, held.count), "a range was given out that is not free");
    const FrameState state = held.kind == Kind::kExact ? FrameState::kHyp : FrameState::kDmaPinned;
    for (FrameIndex i = first; i < first + held.count; ++i) {
      const FrameWord now = frames_[i].word();
      require(now.state == state && now.order == 0 && now.references == 1, "a range in the wrong state");
    }
    hold(first, held);
  }
  // A part of a range from its beginning, in whole units of an area's.
  void free_part() {
    if (held_.empty()) return;
    const auto [first, held] = *choose_held();
    const bool of_area = held.kind == Kind::kCma;
    if ((!of_area && held.kind != Kind::kExact && held.kind != Kind::kPinned) || held.count < 2 * unit_) return;
    const auto part = static_cast<std::uint32_t>(1 + pick(held.count / unit_ - 1)) * unit_;
    check_contents(first, held);
    const Result<> freed =
        of_area ? area_.release(cpu_, pfn(first), part) : pages_.free_contig_range(pfn(first), pfn(first) + part);
    require(freed.has_value(), "a part was not freed");
    model_.release(first, part);
    Held rest = held;
    rest.count -= part;
    held_.erase(first);
    if (rest.count != 0) hold(first + part, rest);
  }
  void isolate() {
    const auto first = static_cast<FrameIndex>(pick(model_.frames()));
    const auto count = static_cast<std::uint32_t>(1 + pick(3 * kPagesPerBlock));
    const Result<> done = pages_.isolate(pfn(first), pfn(first) + count);
    if (!done) {
      bool may_fail = first + count > model_.frames() || &pages_.zone_of(first) != &pages_.zone_of(first + count - 1);
      for (FrameIndex i = first; !may_fail && i < first + count; ++i) may_fail = is_isolated(i);
      require(may_fail || shares_pageblock(first, count), "isolation was refused");
      return;
    }
    require(!shares_pageblock(first, count), "a pageblock was isolated twice");
    isolated_.emplace_back(first, count);
    drain_all();  // what CPUs have at hand they may still give out
  }
  bool shares_pageblock(FrameIndex first, std::uint32_t count) const {
    for (FrameIndex i = first / kPagesPerBlock * kPagesPerBlock; i < first + count; i += kPagesPerBlock) {
      if (is_isolated(i)) return true;
    }
    return false;
  }
  void unisolate() {
    const auto which = isolated_.begin() + static_cast<std::ptrdiff_t>(pick(isolated_.size()));
    pages_.unisolate(pfn(which->first), pfn(which->first) + which->second);
    isolated_.erase(which);
  }

  // ---- The area

  void area_alloc() {
    const auto count = static_cast<std::uint32_t>(pick(pick(4) == 0 ? 600 : 50));
    const auto align_order = static_cast<unsigned>(pick(7));
    const bool easy = count != 0 && has_easy_place(count, align_order);
    moving_from_ = {index(area_.base()), index(area_.base()) + kAreaPages};
    is_area_request_ = true;
    const auto block = area_.alloc(cpu_, count, align_order);
    is_area_request_ = false;
    moving_from_ = {};
    if (!block) {
      require(block.error() == (count == 0 ? Error::kInvalid : Error::kNoMemory), "the wrong error");
      require(!easy || has_faults_, "an area failed that has room");
      return;
    }
    require(block->value() % (1U << align_order) == 0 && area_.contains(*block), "a wrong place in the area");
    claim(index(*block), {.kind = Kind::kCma, .count = (count + unit_ - 1) / unit_ * unit_});
  }
  bool has_easy_place(std::uint32_t count, unsigned align_order) {
    const std::uint32_t whole = (count + unit_ - 1) / unit_ * unit_;
    const std::uint32_t step = std::max(1U << align_order, unit_);
    if (pick(8) != 0) return false;
    for (Pfn page = area_.base().aligned_up(step); page + whole <= area_.base() + kAreaPages; page += step) {
      if (is_easy(index(page), whole)) return true;
    }
    return false;
  }
  void area_release() {
    if (pick(8) == 0) {
      const auto page = area_.base() + static_cast<std::uint32_t>(pick(kAreaPages));
      const auto one = held_.upper_bound(index(page));
      const bool is_held = one != held_.begin() && std::prev(one)->second.kind == Kind::kCma &&
                           index(page) < std::prev(one)->first + std::prev(one)->second.count;
      if (!is_held) {
        require(!area_.release(cpu_, page, 1), "an area took back what it had not given");
        require(pages_.bad_frames() == ++bad_, "a wrong release was not counted");
      }
      return;
    }
    for (auto one = choose_held(); one != held_.end(); ++one) {
      if (one->second.kind == Kind::kCma) return give_back(one->first);
    }
  }

  // ---- The guest's pages give way

  Result<> migrate(Pfn from, Pfn to, unsigned order) override {
    const FrameIndex source = index(from);
    const FrameIndex target = index(to);
    const auto moved = held_.find(source);
    require(moved != held_.end() && moved->second.kind == Kind::kGuest && moved->second.order == order,
            "a block was moved that is no guest's");
    require(!is_isolated(target), "a block was moved to where nothing may be");
    require(is_area_request_ || target < moving_from_.first || target >= moving_from_.second,
            "a block was moved to where it is in the way again");
    if (refuse_to_move_) return std::unexpected(Error::kBusy);
    require(model_.take(target, 1U << order), "a block was moved to memory in use");
    const Held held = moved->second;
    check_contents(source, held);
    each_stamp(target, held, [](std::uint32_t& at, std::uint32_t value) { at = value; });
    held_.erase(moved);
    held_[target] = held;
    model_.release(source, 1U << order);
    return {};
  }
  Result<> split(Pfn block) override {
    const FrameIndex first = index(block);
    const auto one = held_.find(first);
    require(one != held_.end() && one->second.kind == Kind::kGuest, "a block was split that is no guest's");
    if (refuse_to_move_) return std::unexpected(Error::kBusy);
    const Held held = one->second;
    held_.erase(one);
    for (std::uint32_t i = 0; i < held.count; ++i) held_[first + i] = {.kind = Kind::kGuest, .stamp = held.stamp + i};
    return ownership_.split(block, 0);
  }

  // ---- The shrinker

  [[nodiscard]] std::string_view name() const override { return "hoard"; }
  std::uint32_t count() override {
    return static_cast<std::uint32_t>(
        std::ranges::count_if(held_, [](const auto& one) { return one.second.kind == Kind::kHoard; }));
  }
  std::uint32_t scan(std::uint32_t pages) override {
    std::uint32_t freed = 0;
    for (auto one = held_.begin(); one != held_.end() && freed < pages;) {
      const FrameIndex first = (one++)->first;
      if (held_.at(first).kind != Kind::kHoard) continue;
      give_back(first);
      ++freed;
    }
    return freed;
  }

  // ---- What must hold

  void audit() {
    const auto counts = pages_.audit();
    if (!counts) throw Violation{std::string(counts.error().what)};
    std::array<std::uint32_t, 6> held{};
    std::uint32_t lent = 0;
    for (const auto& [first, one] : held_) {
      held[static_cast<unsigned>(one.kind)] += one.count;
      if (one.kind == Kind::kGuest && is_area(first)) lent += one.count;
    }
    const auto of = [&](Kind kind) { return held[static_cast<unsigned>(kind)]; };
    require(counts->free + counts->cma_idle == model_.free_frames(), "a wrong count of free frames");
    require(counts->hyp == of(Kind::kHyp) + of(Kind::kHoard) + of(Kind::kExact), "a wrong count of the hypervisor's");
    require(counts->guest + counts->cma_lent == of(Kind::kGuest) && counts->cma_lent == lent,
            "a wrong count of guests' frames");
    require(counts->pinned == of(Kind::kPinned) + of(Kind::kCma), "a wrong count of pinned frames");
    require(pages_.bad_frames() == bad_, "a frame was called bad that is not");
    if (unit_ != 0) {
      const CmaStatistics statistics = area_.statistics();
      require(statistics.allocated == of(Kind::kCma) && statistics.lent == lent, "wrong statistics of the area");
    }
  }

  class CountedLines final : public Log {
   public:
    void write_line(std::string_view line) override { lines += line.empty() ? 0 : 1; }
    unsigned lines = 0;
  };

  Decide decide_;
  Emphasis emphasis_;
  FakeMachine machine_;
  Memblock memblock_;
  PageAllocator<FakeMachine> pages_;
  FrameTable& frames_ = pages_.frames();
  Ownership ownership_{frames_};
  BuddyModel model_{static_cast<std::uint32_t>((kLocal + kRemote) / kPageSize)};
  CmaArea area_;
  std::array<std::uint32_t, CmaArea::bitmap_words(kAreaPages, 0)> bitmap_{};
  std::uint32_t unit_ = 0;  // pages for a bit of the area's; 0: there is no area
  Blocks held_;
  std::vector<std::pair<FrameIndex, std::uint32_t>> isolated_;
  std::vector<FrameHistory> history_;
  FaultInjector fault_;
  CountedLines log_;
  std::uint32_t all_free_ = 0;
  std::uint32_t stamp_ = 1;
  std::uint32_t bad_ = 0;
  unsigned cpu_ = 0;
  unsigned steps_ = 0;
  bool is_poisoned_ = false;
  bool has_faults_ = false;
  bool adopted_ = false;
  bool refuse_to_move_ = false;
  bool is_area_request_ = false;
  std::pair<FrameIndex, FrameIndex> moving_from_;  // pageblocks that are being emptied
};

}  // namespace cadastre::model
