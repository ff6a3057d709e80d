// A model of ARMv7's stage 2 as the table code may find it at its worst: walks that see a store as late as they may, and
// TLBs that keep every translation until they must not.
//
//   entry stored --clean--> written back --DSB--> seen by every walk
//
//   a translation that the tables no longer hold ("stale"), in each CPU's TLB:
//     its store not seen yet --DSB--> can go --TLBI--> going --DSB--> gone
//   A TLBI does nothing for what its CPU's walks could still read anew, so it has to come after the DSB.
//
// What is never allowed, and thrown as a Violation when it happens: a valid entry made where a TLB may still hold
// another with a different output, size or type [ARMv7 B3.10.1]; a table linked before its entries are seen; a table or
// a frame given back while a TLB or a walk can still reach it; a CPU that reads or writes what its guest does not own.
// Guests run on all CPUs, 1 to 8, all the time: at every barrier each CPU in its turn may use a translation, and after a
// store one of them, a stale one if its TLB may have one.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <source_location>
#include <string_view>
#include <utility>
#include <vector>

#include "mm/base/access.hh"
#include "mm/base/address.hh"
#include "mm/base/error.hh"
#include "mm/translation/descriptor.hh"
#include "mm/translation/stage2_format.hh"
#include "tests/model/choices.hh"

namespace cadastre::model {

// A place in the code under test: where it calls its environment.
struct Site {
  std::string_view file;
  unsigned line = 0;
  Site() = default;
  Site(std::source_location at) : file(at.file_name()), line(at.line()) {}  // NOLINT(google-explicit-constructor)
  friend auto operator<=>(const Site&, const Site&) = default;
};

// A fault in the environment: what is left out is the `position`-th such call within each operation of kind `operation`;
// or, with a site, every such call from there.
struct Mutation {
  enum class Kind : std::uint8_t { kNone, kDsb, kInvalidate, kLocalInvalidate, kClean, kBreak, kScrub };
  Kind kind = Kind::kNone;
  unsigned position = 0;
  unsigned operation = 0;
  std::optional<Site> site = std::nullopt;
  unsigned hits = 0;
};

// What memory is counted in: pages, with blocks of 2 MiB as the large leaf; or 2 MiB, with 1 GiB.
struct Granularity {
  unsigned small_level;
  [[nodiscard]] unsigned large_level() const { return small_level - 1; }
  [[nodiscard]] std::uint64_t size() const { return level_size(small_level); }
};

inline constexpr unsigned kSmallPerLarge = kEntriesPerTable;

class Machine {
 public:
  static constexpr unsigned kGuests = 2;
  static constexpr unsigned kTablePages = 24;
  static constexpr unsigned kLargeFrames = 8;
  static constexpr unsigned kFrames = kLargeFrames * kSmallPerLarge;
  // A guest's window, in granules, across a border of the next level up.
  static constexpr unsigned kWindow = 3 * kSmallPerLarge;
  static constexpr PhysAddr kTables{0x7000'0000};
  static constexpr int kFree = -1;
  static constexpr int kShared = -2;

  Machine(Decide decide, Granularity granularity, unsigned cpus)
      : decide_(std::move(decide)),
        granularity_(granularity),
        cpus_(cpus),
        all_cpus_((1U << cpus) - 1),
        memory_(std::make_unique<Page[]>(kTablePages)),
        tables_(kTablePages),
        frames_(kFrames),
        pending_state_(kTablePages * kEntriesPerTable) {
    for (unsigned guest = 0; guest < kGuests; ++guest) {
      for (unsigned i = 0; i < 2; ++i) {
        tables_[2 * guest + i] = {.state = TableState::kLinked,
                                  .guest = guest,
                                  .level = 1,
                                  .base = i * (kEntriesPerTable * level_size(1)),
                                  .fresh = Fresh::kSeen};
      }
      contents_[guest].assign(kWindow, 0);
    }
  }

  // ---- Frames, counted in granules

  struct Frame {
    int owner = kFree;
    unsigned users = 0;  // of a shared one
    std::uint64_t contents = 0;
  };

  [[nodiscard]] const Granularity& granularity() const { return granularity_; }
  [[nodiscard]] PhysAddr frame_base() const { return PhysAddr(level_size(granularity_.small_level - 1) * kFirstLarge); }
  [[nodiscard]] PhysAddr frame_address(unsigned frame) const { return frame_base() + frame * granularity_.size(); }
  [[nodiscard]] unsigned frame_at(PhysAddr address) const {
    const std::uint64_t index = (address - frame_base()) / granularity_.size();
    if (address < frame_base() || index >= kFrames) throw Violation{"a translation leads outside of the guests' RAM"};
    return static_cast<unsigned>(index);
  }
  [[nodiscard]] Frame& frame(unsigned index) { return frames_[index]; }
  [[nodiscard]] static IpaAddr window(const Granularity& granularity) {
    constexpr IpaAddr kBorder{2 * level_size(1)};
    return granularity.small_level == kLastLevel ? kBorder - kBlockSize : kBorder;
  }
  [[nodiscard]] IpaAddr address(unsigned granule) const { return window(granularity_) + granule * granularity_.size(); }
  [[nodiscard]] unsigned granule_at(IpaAddr ipa) const {
    const std::uint64_t index = (ipa - window(granularity_)) / granularity_.size();
    if (ipa < window(granularity_) || index >= kWindow) throw Violation{"an address outside of the window"};
    return static_cast<unsigned>(index);
  }

  // `count` free frames at a multiple of `align`, from a random place on; kFrames if there are none.
  unsigned find_free(unsigned count, unsigned align) {
    const unsigned start = static_cast<unsigned>(decide_(kFrames)) / align * align;
    for (unsigned tried = 0; tried < kFrames; tried += align) {
      const unsigned first = (start + tried) % kFrames;
      if (first + count > kFrames) continue;
      bool free = true;
      for (unsigned i = 0; free && i < count; ++i) free = frames_[first + i].owner == kFree;
      if (free) return first;
    }
    return kFrames;
  }
  // Scrubbed, so that no guest sees another's data, unless all of it will be overwritten.
  void take(unsigned first, unsigned count, unsigned guest, bool overwritten = false) {
    const bool scrub = !overwritten && !mutated(Mutation::Kind::kScrub);
    for (unsigned i = first; i < first + count; ++i) {
      if (frames_[i].owner != kFree) throw Violation{"a frame was given out twice"};
      frames_[i].owner = static_cast<int>(guest);
      if (scrub) frames_[i].contents = 0;
    }
  }
  // Nobody may be able to reach it any more.
  void give_back(unsigned first, unsigned count, unsigned guest) {
    for (unsigned i = first; i < first + count; ++i) {
      if (frames_[i].owner == kFree) throw Violation{"a frame was given back twice"};
      check_unreachable(i, guest);
      if (frames_[i].owner == kShared && --frames_[i].users != 0) continue;
      frames_[i].owner = kFree;
      frames_[i].contents = ++written_;  // somebody left something there
    }
  }

  // What guest `guest` last wrote there.
  [[nodiscard]] std::uint64_t& contents(unsigned guest, unsigned granule) { return contents_[guest][granule]; }

  // ---- Operations and their faults

  void set_mutation(const Mutation& mutation) { mutation_ = mutation; }
  [[nodiscard]] const Mutation& mutation() const { return mutation_; }
  // Where calls of each kind came from so far, from when this was first asked.
  using Sites = std::set<std::pair<Mutation::Kind, Site>>;
  Sites& sites() { return sites_ ? *sites_ : sites_.emplace(); }
  void begin(unsigned operation) {
    operation_ = operation;
    calls_ = {};
    left_out_ = false;
  }
  // The allocation of a table after the next `count` fails.
  void fail_tables_after(unsigned count) { tables_left_ = count; }
  void never_fail() { tables_left_ = ~0U; }

  // ---- The table's environment, for one guest

  [[nodiscard]] PhysAddr root(unsigned guest) const { return kTables + guest * 2 * kPageSize; }
  Entry* table_at(PhysAddr table) { return memory_[static_cast<std::size_t>((table - kTables) / kPageSize)].entries; }

  Result<PhysAddr> allocate_table(unsigned guest) {
    if (tables_left_ == 0) return std::unexpected(Error::kNoMemory);
    for (unsigned i = 2 * kGuests; i < kTablePages; ++i) {
      if (tables_[i].state != TableState::kFree) continue;
      --tables_left_;
      tables_[i] = {.state = TableState::kUnlinked, .guest = guest};
      std::ranges::fill(memory_[i].entries, 0);  // a walk may see what was there before until it is cleaned
      return kTables + i * kPageSize;
    }
    return std::unexpected(Error::kNoMemory);
  }
  // Tables are freed by destructors too, so what is wrong with it is told at the end of the operation.
  void free_table(PhysAddr table) {
    const auto index = static_cast<std::size_t>((table - kTables) / kPageSize);
    if (index >= kTablePages || tables_[index].state == TableState::kFree) {
      wrong_free_ = "a table was freed that is none";
      return;
    }
    if (tables_[index].state == TableState::kLinked) wrong_free_ = "a table was freed that is still linked";
    for (const Stale& stale : stale_) {
      if (stale.is_table && entry_address(stale.value) == table) {
        wrong_free_ = "a table was freed that a walk can still be in";
      }
    }
    std::erase_if(pending_, [&](std::size_t at) {
      if (at / kEntriesPerTable == index) pending_state_[at] = Pending::kNo;
      return at / kEntriesPerTable == index;
    });
    tables_[index].state = TableState::kFree;
  }
  void store(Entry* entry, Entry value) {
    const Entry old = *entry;
    if (is_broken(value) && is_valid(old) && mutated(Mutation::Kind::kBreak)) {
      hidden_.emplace_back(entry, value);  // the code believes it has broken the entry, the walks do not see it
      return;
    }
    std::erase_if(hidden_, [&](const auto& h) { return h.first == entry; });
    *entry = value;
    const unsigned page = page_of(entry);
    const TableInfo& info = tables_[page];
    if (walk_view(old, info.level) == walk_view(value, info.level) && info.state == TableState::kLinked) return;
    note_pending(entry);
    if (info.state == TableState::kLinked) changed(entry, info, old, value);
    if (decide_(16) == 0) run_guest(static_cast<unsigned>(decide_(cpus_)));
  }
  Entry load(const Entry* entry) const {
    for (const auto& [hidden, value] : hidden_) {
      if (hidden == entry) return value;
    }
    return *entry;
  }
  void clean(Entry* entry, std::uint64_t count, const Site& site) {
    if (mutated(Mutation::Kind::kClean, site)) return;
    for (std::size_t at = position(entry); at < position(entry) + count; ++at) {
      if (pending_state_[at] == Pending::kStored) pending_state_[at] = Pending::kCleaned;
    }
    if (count == kEntriesPerTable) tables_[page_of(entry)].fresh = Fresh::kCleaned;
  }
  void dsb(const Site& site) {
    if (mutated(Mutation::Kind::kDsb, site)) {
      left_out_ = true;
      return;
    }
    // Nothing has relied on the one that was left out: this one makes up for it.
    if (std::exchange(left_out_, false)) --mutation_.hits;
    std::erase_if(pending_, [&](std::size_t at) {
      const bool seen = pending_state_[at] == Pending::kCleaned;
      if (seen) pending_state_[at] = Pending::kNo;
      return seen;
    });
    for (TableInfo& info : tables_) {
      if (info.fresh == Fresh::kCleaned) info.fresh = Fresh::kSeen;
    }
    for (Stale& stale : stale_) {
      if (stale.phase == Phase::kUnseen && !is_pending(stale.entry)) stale.phase = Phase::kSeen;
      if (stale.phase == Phase::kGoing) {
        stale.cpus &= ~stale.going;
        stale.phase = Phase::kSeen;
      }
    }
    std::erase_if(stale_, [&](const Stale& s) {
      if (s.cpus == 0) count_stale(s, -1);
      return s.cpus == 0;
    });
    interleave();
  }
  void invalidate(unsigned guest, const Site& site) {
    left_out_ = false;
    if (mutated(Mutation::Kind::kInvalidate, site)) return;
    const bool local = mutated(Mutation::Kind::kLocalInvalidate, site);
    for (Stale& stale : stale_) {
      if (stale.guest != guest || stale.phase != Phase::kSeen) continue;
      stale.phase = Phase::kGoing;
      stale.going = local ? 1 : all_cpus_;
    }
    interleave();
  }

  // ---- The end of an operation: what every walk must see by now, and what no TLB may hold

  // Calls f(base, level, entry) for every leaf that a walk of the guest's tables ends at.
  template <class F>
  void for_each_leaf(unsigned guest, F&& f) const {
    for (unsigned i = 0; i < 2; ++i) leaves_of(2 * guest + i, f);
  }
  void check_settled() const {
    if (wrong_free_ != nullptr) throw Violation{wrong_free_};
    if (!pending_.empty()) throw Violation{"a walk may not see what the operation has stored"};
    if (!stale_.empty()) throw Violation{"a TLB may hold what the tables no longer say"};
  }
  // Occupancy counts every entry in use; no table is empty, none is lost.
  void check_tables(unsigned guest, unsigned expected) const {
    unsigned linked = 0;
    for (unsigned i = 2 * kGuests; i < kTablePages; ++i) {
      if (tables_[i].state == TableState::kFree || tables_[i].guest != guest) continue;
      if (tables_[i].state != TableState::kLinked) throw Violation{"a table was lost"};
      ++linked;
    }
    if (linked != expected) throw Violation{"the count of tables is wrong"};
    for (unsigned i = 0; i < kTablePages; ++i) {
      if (tables_[i].state != TableState::kLinked || tables_[i].guest != guest) continue;
      for (const Entry entry : memory_[i].entries) {
        if (is_broken(entry)) throw Violation{"a broken entry was left behind"};
        if (!is_valid(entry) || !is_table(entry, tables_[i].level)) continue;
        const auto& below = memory_[index_of(entry_address(entry))].entries;
        const auto used = static_cast<unsigned>(std::ranges::count_if(below, [](Entry e) { return e != 0; }));
        if (used == 0) throw Violation{"an empty table was left linked"};
        if (used != table_occupancy(entry)) throw Violation{"a table's occupancy is wrong"};
      }
    }
  }

  // At a barrier every CPU but the one that waits may have come any way with its guest: each in its turn runs or does not.
  void interleave() {
    for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
      if (decide_(4) == 0) run_guest(cpu);
    }
  }
  // One access of a CPU to some page of some guest, by whatever translation it may use.
  void run_guest(unsigned cpu) {
    const auto guest = static_cast<unsigned>(decide_(kGuests));
    const auto granule = static_cast<unsigned>(decide_(kWindow));
    const IpaAddr ipa = address(granule);
    std::vector<std::pair<Entry, unsigned>> usable;
    for (const Stale& stale : stale_) {
      if ((stale.cpus >> cpu & 1) != 0 && !stale.is_table && stale.guest == guest &&
          ipa.value() - stale.base < level_size(stale.level)) {
        usable.emplace_back(stale.value, stale.level);
      }
    }
    if (usable.empty()) live(guest, ipa, usable);
    if (usable.empty()) return;
    const auto [entry, level] = usable[static_cast<std::size_t>(decide_(usable.size()))];
    use(guest, granule, entry, level);
  }

 private:
  static constexpr unsigned kFirstLarge = 4;

  enum class TableState : std::uint8_t { kFree, kUnlinked, kLinked, kRetired };
  enum class Fresh : std::uint8_t { kOld, kCleaned, kSeen };
  struct TableInfo {
    TableState state = TableState::kFree;
    unsigned guest = 0;
    unsigned level = 0;
    std::uint64_t base = 0;
    Fresh fresh = Fresh::kOld;  // whether its zeroes have replaced, for every walk, what the page held before
  };
  struct Page {
    Entry entries[kEntriesPerTable];
  };
  // A store that walks may not see yet.
  enum class Pending : std::uint8_t { kNo, kStored, kCleaned };
  enum class Phase : std::uint8_t { kUnseen, kSeen, kGoing };
  // What was valid and may still be in a TLB: a leaf, or a table (whose leaves are here too).
  struct Stale {
    unsigned guest;
    bool is_table;
    unsigned level;
    std::uint64_t base;
    Entry value;
    Entry* entry;
    Phase phase;
    unsigned cpus;
    unsigned going;
  };

  [[nodiscard]] static unsigned index_of(PhysAddr table) {
    const std::uint64_t index = (table - kTables) / kPageSize;
    if (index >= kTablePages) throw Violation{"a table entry leads outside of the tables"};
    return static_cast<unsigned>(index);
  }
  [[nodiscard]] unsigned page_of(const Entry* entry) const {
    return static_cast<unsigned>(position(entry) / kEntriesPerTable);
  }
  [[nodiscard]] std::uint64_t base_of(const Entry* entry, const TableInfo& info) const {
    return info.base + (position(entry) % kEntriesPerTable) * level_size(info.level);
  }
  // What the CPU makes of an entry: not the bits that it ignores.
  [[nodiscard]] static Entry walk_view(Entry entry, unsigned level) {
    constexpr Entry kSoftware = Entry{0xf} << 55;
    if (!is_valid(entry)) return 0;
    return is_table(entry, level) ? entry & (kEntryAddressMask | kEntryTypeMask) : entry & ~kSoftware;
  }
  [[nodiscard]] static bool same_translation(Entry a, Entry b) {
    const auto type = [](Entry entry) { return Stage2Attributes::from_bits(leaf_attributes(entry)); };
    return entry_address(a) == entry_address(b) && type(a).has_type_of(type(b));
  }

  [[nodiscard]] bool mutated(Mutation::Kind kind, const Site& site = {}) {
    if (sites_ && site.line != 0) sites_->emplace(kind, site);
    if (mutation_.kind != kind) return false;
    if (mutation_.site) {
      if (*mutation_.site != site) return false;
      ++mutation_.hits;
      return true;
    }
    if (mutation_.operation != operation_) return false;
    if (calls_[static_cast<unsigned>(kind)]++ != mutation_.position) return false;
    ++mutation_.hits;
    return true;
  }

  [[nodiscard]] std::size_t position(const Entry* entry) const {
    return static_cast<std::size_t>(entry - memory_[0].entries);
  }
  void note_pending(const Entry* entry) {
    Pending& state = pending_state_[position(entry)];
    if (state == Pending::kNo) pending_.push_back(position(entry));
    state = Pending::kStored;
  }
  [[nodiscard]] bool is_pending(const Entry* entry) const { return pending_state_[position(entry)] != Pending::kNo; }

  // A walk's view of a linked entry has changed.
  void changed(Entry* entry, const TableInfo& info, Entry old, Entry value) {
    const std::uint64_t base = base_of(entry, info);
    if (is_valid(value)) check_made(info.guest, info.level, base, value, old);
    if (is_valid(old)) retire(entry, info.guest, info.level, base, old);
    if (is_valid(value) && is_table(value, info.level)) link(info.guest, info.level, base, value);
  }
  // Break before make: no TLB may hold another translation of this range with a different output, size or type.
  void check_made(unsigned guest, unsigned level, std::uint64_t base, Entry value, Entry old) const {
    const bool table = is_table(value, level);
    const auto conflict = [&](bool other_table, unsigned other_level, Entry other) {
      if (table && (other_table || other_level > level)) {
        return other_table && other_level == level && entry_address(other) != entry_address(value);
      }
      return table || other_table || other_level != level || !same_translation(value, other);
    };
    if (is_valid(old) && conflict(is_table(old, level), level, old)) {
      throw Violation{"a valid entry took the place of a different one without a break"};
    }
    if (!has_stale(guest, base, level)) return;
    for (const Stale& stale : stale_) {
      if (stale.guest != guest) continue;
      const bool apart = stale.base + level_size(stale.level) <= base || base + level_size(level) <= stale.base;
      if (!apart && conflict(stale.is_table, stale.level, stale.value)) {
        throw Violation{"an entry was made while a TLB may hold a different one"};
      }
    }
  }
  void retire(Entry* entry, unsigned guest, unsigned level, std::uint64_t base, Entry old) {
    const bool table = is_table(old, level);
    stale_.push_back({guest, table, level, base, old, entry, Phase::kUnseen, all_cpus_, 0});
    count_stale(stale_.back(), 1);
    if (!table) return;
    const unsigned page = index_of(entry_address(old));
    tables_[page].state = TableState::kRetired;
    // An entry that was not broken goes with its table.
    mutation_.hits -= static_cast<unsigned>(
        std::erase_if(hidden_, [&](const auto& hidden) { return page_of(hidden.first) == page; }));
    for (unsigned i = 0; i < kEntriesPerTable; ++i) {
      const Entry below = memory_[page].entries[i];
      // Gone when the entry above it is gone.
      if (is_valid(below)) retire(entry, guest, level + 1, base + i * level_size(level + 1), below);
    }
  }
  void link(unsigned guest, unsigned level, std::uint64_t base, Entry value) {
    const unsigned page = index_of(entry_address(value));
    TableInfo& info = tables_[page];
    if (info.state != TableState::kUnlinked) throw Violation{"a table was linked that is in use or free"};
    if (info.fresh != Fresh::kSeen)
      throw Violation{"a table was linked while a walk may see what its page held before"};
    info.state = TableState::kLinked;
    info.level = level + 1;
    info.base = base;
    for (unsigned i = 0; i < kEntriesPerTable; ++i) {
      const Entry& below = memory_[page].entries[i];
      if (is_pending(&below)) throw Violation{"a table was linked before a walk is sure to see its entries"};
      if (!is_valid(below)) continue;
      const std::uint64_t at = base + i * level_size(level + 1);
      check_made(guest, level + 1, at, below, 0);
      if (is_table(below, level + 1)) link(guest, level + 1, at, below);
    }
  }

  // How many stale translations each granule has, to look for them only where there are any.
  void count_stale(const Stale& stale, int by) {
    const std::uint64_t base = window(granularity_).value();
    const std::uint64_t from = std::max(stale.base, base) - base;
    const std::uint64_t to = std::min(stale.base + level_size(stale.level) - base, kWindow * granularity_.size());
    for (std::uint64_t at = from; at < to; at += granularity_.size()) {
      stale_count_[stale.guest][static_cast<std::size_t>(at / granularity_.size())] += by;
    }
  }
  [[nodiscard]] bool has_stale(unsigned guest, std::uint64_t base, unsigned level) const {
    if (level != granularity_.small_level) return !stale_.empty();
    return stale_count_[guest][granule_at(IpaAddr(base))] != 0;
  }

  void check_unreachable(unsigned index, unsigned guest) const {
    const PhysAddr target = frame_address(index);
    for (const Stale& stale : stale_) {
      if (stale.is_table || stale.guest != guest) continue;
      const PhysAddr base = entry_address(stale.value);
      if (target >= base && target - base < level_size(stale.level)) {
        throw Violation{"a frame was given back while a TLB may hold its translation"};
      }
    }
  }

  template <class F>
  void leaves_of(unsigned page, F&& f) const {
    const TableInfo& info = tables_[page];
    for (unsigned i = 0; i < kEntriesPerTable; ++i) {
      const Entry entry = memory_[page].entries[i];
      if (!is_valid(entry)) continue;
      if (is_table(entry, info.level)) {
        leaves_of(index_of(entry_address(entry)), f);
      } else {
        f(IpaAddr(info.base + i * level_size(info.level)), info.level, entry);
      }
    }
  }
  void live(unsigned guest, IpaAddr ipa, std::vector<std::pair<Entry, unsigned>>& usable) const {
    const auto first = static_cast<unsigned>(ipa.value() >> level_shift(1));
    const Entry* table = memory_[2 * guest + first / kEntriesPerTable].entries;
    for (unsigned level = 1; level <= kLastLevel; ++level) {
      const Entry entry = table[ipa.value() >> level_shift(level) & (kEntriesPerTable - 1)];
      if (!is_valid(entry)) return;
      if (is_leaf(entry, level)) {
        usable.emplace_back(entry, level);
        return;
      }
      table = memory_[index_of(entry_address(entry))].entries;
    }
  }
  void use(unsigned guest, unsigned granule, Entry entry, unsigned level) {
    const auto attributes = Stage2Attributes::from_bits(leaf_attributes(entry));
    const std::uint64_t offset = address(granule).value() & (level_size(level) - 1);
    Frame& target = frames_[frame_at(entry_address(entry) + offset)];
    const bool write = decide_(2) == 0;
    if (!(write ? attributes.writable() : attributes.readable())) return;  // a fault, for later
    if (target.owner != static_cast<int>(guest) && (target.owner != kShared || write)) {
      throw Violation{write ? "a guest wrote to what is not its own" : "a guest read what is not its own"};
    }
    if (target.contents != contents_[guest][granule]) throw Violation{"a guest read what it did not write"};
    if (write) target.contents = contents_[guest][granule] = ++written_;
  }

  Decide decide_;
  Granularity granularity_;
  unsigned cpus_;
  unsigned all_cpus_;
  std::unique_ptr<Page[]> memory_;
  std::vector<TableInfo> tables_;
  std::vector<Frame> frames_;
  std::array<std::vector<std::uint64_t>, kGuests> contents_;
  std::vector<std::size_t> pending_;
  std::vector<Pending> pending_state_;
  std::vector<Stale> stale_;
  std::array<std::array<int, kWindow>, kGuests> stale_count_{};
  std::vector<std::pair<const Entry*, Entry>> hidden_;
  const char* wrong_free_ = nullptr;
  Mutation mutation_;
  std::optional<Sites> sites_;
  unsigned operation_ = 0;
  bool left_out_ = false;
  std::array<unsigned, 8> calls_{};
  unsigned tables_left_ = ~0U;
  std::uint64_t written_ = 0;
};

// What Stage2 and PageTable see of it.
class Environment {
 public:
  Environment(Machine& machine, unsigned guest) : machine_(machine), guest_(guest) {}

  Result<PhysAddr> allocate_table() { return machine_.allocate_table(guest_); }
  void free_table(PhysAddr table) { machine_.free_table(table); }
  Entry* table_at(PhysAddr table) { return machine_.table_at(table); }
  Entry load(const Entry* entry) { return machine_.load(entry); }
  void store(Entry* entry, Entry value) { machine_.store(entry, value); }
  using At = std::source_location;
  void clean(Entry* entry, std::uint64_t count, At at = At::current()) { machine_.clean(entry, count, at); }
  void dsb(At at = At::current()) { machine_.dsb(at); }
  void invalidate(std::uint64_t, std::uint64_t, At at = At::current()) { machine_.invalidate(guest_, at); }

  Result<PhysAddr> allocate_frame(IpaAddr ipa, unsigned level) {
    const unsigned count = level == machine_.granularity().small_level ? 1 : kSmallPerLarge;
    const unsigned frame = frames_left == 0 ? Machine::kFrames : machine_.find_free(count, count);
    if (frame == Machine::kFrames) return std::unexpected(Error::kNoMemory);
    --frames_left;
    machine_.take(frame, count, guest_);
    const unsigned granule = machine_.granule_at(ipa);
    for (unsigned i = 0; i < count; ++i) machine_.contents(guest_, granule + i) = 0;
    return machine_.frame_address(frame);
  }
  void free_frame(PhysAddr frame, unsigned level) {
    machine_.give_back(machine_.frame_at(frame), level == machine_.granularity().small_level ? 1 : kSmallPerLarge,
                       guest_);
  }
  Result<PhysAddr> private_copy(IpaAddr ipa, PhysAddr shared) {
    Machine::Frame& original = machine_.frame(machine_.frame_at(shared));
    if (original.owner != Machine::kShared) throw Violation{"a frame was copied that is not shared"};
    if (original.users == 1) {
      original.owner = static_cast<int>(guest_);
      return shared;
    }
    const std::uint64_t contents = machine_.contents(guest_, machine_.granule_at(ipa));
    const Result<PhysAddr> copy = allocate_frame(ipa, machine_.granularity().small_level);
    machine_.contents(guest_, machine_.granule_at(ipa)) = contents;
    if (copy) machine_.frame(machine_.frame_at(*copy)).contents = original.contents;
    return copy;
  }
  void drop_shared(PhysAddr frame) { machine_.give_back(machine_.frame_at(frame), 1, guest_); }

  unsigned frames_left = ~0U;

 private:
  Machine& machine_;
  unsigned guest_;
};

}  // namespace cadastre::model
