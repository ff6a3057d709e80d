// Page tables of long descriptors, over any geometry (HYP's stage 1, a guest's stage 2) and any environment.
//
//              root: kRootEntries of 1 GiB, level 1
//             +-----+-----+-----+-----+--
//             | blk |  0  | tbl |  0  |          blk: 1 GiB block     0: nothing
//             +-----+-----+--|--+-----+--
//                            v  level 2: 512 entries of 2 MiB
//                         +-----+-----+-----+--
//                         | blk | tbl |  0  |
//                         +-----+--|--+-----+--
//                                  v  level 3: 512 entries of 4 KiB
//                               +------+---+------+--
//                               | page | 0 | page |
//                               +------+---+------+--
//
// Every operation prepares, then commits: whatever can fail (checks, and taking table pages) happens before
// the first entry changes, and a failure leaves the tables as they were. A table that becomes empty is freed;
// a block that an operation changes in part is split first, and merges back on demand.
//
// `break_then_make` is the one place where a live entry is broken: the broken entries, a DSB, the TLB
// invalidation, a DSB, and only then new entries, and the return of frames and tables to their owners [ARMv7
// B3.10.1].
//
// Whoever calls holds the lock of the address space. Addresses and sizes are multiples of 4 KiB.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "mm/base/address.hh"
#include "mm/base/check.hh"
#include "mm/base/error.hh"
#include "mm/translation/descriptor.hh"

namespace cadastre {

// What a table needs from where it lives. `load` and `store` are one access of 64 bits; all but
// `allocate_table` and `invalidate` should be inline.
template <class E>
concept TableEnvironment = requires(E& environment, PhysAddr table, Entry* entry, Entry value, std::uint64_t n) {
  // A zeroed page, or the environment's reason (kNoMemory, kLimit).
  { environment.allocate_table() } -> std::same_as<Result<PhysAddr>>;
  environment.free_table(table);
  { environment.table_at(table) } -> std::same_as<Entry*>;
  { environment.load(entry) } -> std::same_as<Entry>;
  environment.store(entry, value);
  // Cleans `n` entries to where the table walk reads them; nothing where walks are coherent with the
  // cache.
  environment.clean(entry, n);
  // Everything stored before is seen by every CPU's table walk after. HYP's own adds an ISB.
  environment.dsb();
  // Forgets, on all CPUs, every translation of [address, address + n), made through this table by either
  // stage. ARMv7 cannot do it for an IPA: stage 2 forgets the whole VMID. Completed by the `dsb` that
  // follows.
  environment.invalidate(n, n);
};

// A valid leaf, as seen from one address inside of it.
template <class Attributes>
struct Mapping {
  PhysAddr address;  // what that address translates to
  Attributes attributes;
  unsigned level;  // 1: 1 GiB, 2: 2 MiB, 3: 4 KiB
  [[nodiscard]] std::uint64_t size() const { return level_size(level); }
  [[nodiscard]] PhysAddr base() const { return address.aligned_down(size()); }
};

template <class Geometry, TableEnvironment Env>
class PageTable {
 public:
  using Environment = Env;
  using Input = typename Geometry::Input;
  using Attributes = typename Geometry::Attributes;
  using Mapping = cadastre::Mapping<Attributes>;

  static constexpr std::uint64_t kInputSize = std::uint64_t{1} << Geometry::kInputBits;
  static constexpr std::size_t kRootBytes = Geometry::kRootEntries * sizeof(Entry);
  static constexpr unsigned kNoBudget = std::numeric_limits<unsigned>::max();
  static_assert(Geometry::kRootEntries * level_size(1) == kInputSize);

  // `root` is kRootBytes of zeroes, aligned to their size, reached by `table_at`. It stays the caller's, as
  // does the environment.
  PageTable(Environment& environment, PhysAddr root) : environment_(environment), root_(root) {}
  PageTable(const PageTable&) = delete;
  PageTable& operator=(const PageTable&) = delete;

  [[nodiscard]] PhysAddr root() const { return root_; }
  // Table pages in use, the root not counted, and how many there may be: kLimit beyond.
  [[nodiscard]] unsigned tables() const { return tables_; }
  void set_table_limit(unsigned limit) { table_limit_ = limit; }

  // ---- Lookup

  [[nodiscard]] std::optional<Mapping> query(Input input) const;
  // Calls step(level, descriptor) for every entry on the way to `input`, the last one a leaf or invalid.
  template <class Step>
  void walk(Input input, Step&& step) const;
  // Calls visitor(Input, Mapping) for each leaf that reaches into the range, in rising order, with its part
  // inside: the first address, and the mapping of that address.
  template <class Visitor>
  void visit(Input first, std::uint64_t size, Visitor&& visitor) const;
  // The first address at or after `input` that is mapped, kInputSize if there is none. Skips what is empty by
  // level.
  [[nodiscard]] std::uint64_t next_mapped(Input input) const;

  // What is at `input`, and the level at which the lookup ends, in one walk.
  struct Found {
    std::optional<Mapping> mapping;
    unsigned level;
  };
  [[nodiscard]] Found look_up(Input input) const {
    const Position position = find_in<1>(root_table(), input.value(), kLastLevel, nullptr);
    if (!is_valid(position.value)) return {std::nullopt, position.level};
    return {mapping_of(position.value, position.level, input.value()), position.level};
  }
  // The level at which a lookup of `input` ends.
  [[nodiscard]] unsigned lookup_level(Input input) const { return find(input.value()).level; }

  // ---- Change

  // Maps a range in the largest leaves that fit, none larger than `largest_level` (1, 2 or 3).
  // kInvalid: misaligned or empty; kOutOfRange; kOverlap: something is mapped there; kNoMemory, kLimit:
  // tables.
  [[nodiscard]] Result<> map(Input first, PhysAddr physical, std::uint64_t size, Attributes attributes,
                             unsigned largest_level = 1);
  // Maps one leaf of `level`: what a fault handler does. Errors as for `map`.
  [[nodiscard]] Result<> map_leaf(Input input, PhysAddr physical, unsigned level, Attributes attributes);

  // Unmaps what is mapped in the range; holes are fine. After the TLBs have forgotten, calls visitor(Input,
  // Mapping) for each leaf that is gone. Fails only when a block has to be split and there is no table for
  // it.
  template <class Visitor>
  [[nodiscard]] Result<> unmap(Input first, std::uint64_t size, Visitor&& visitor);
  [[nodiscard]] Result<> unmap(Input first, std::uint64_t size);
  // The same in bounded steps: stops after about `budget` leaves (at most a table's more) and returns how
  // many bytes of the range are done; the rest is as it was.
  template <class Visitor>
  [[nodiscard]] Result<std::uint64_t> unmap_some(Input first, std::uint64_t size, unsigned budget, Visitor&& visitor);

  // Gives each leaf in the range the attributes change(Mapping), a pure function; holes are fine. Blocks at
  // the edges are split.
  template <class Change>
  [[nodiscard]] Result<> protect(Input first, std::uint64_t size, Change&& change);
  template <class Change>
  [[nodiscard]] Result<std::uint64_t> protect_some(Input first, std::uint64_t size, unsigned budget, Change&& change);

  // Gives leaves other rights without splitting any: a leaf that a range reaches into changes as a whole.
  // `change` may not touch what needs a break. Takes no memory and cannot fail; flushes once. next() returns
  // the next range, an std::optional<std::pair<Input, std::uint64_t>>.
  template <class Next, class Change>
  void protect_leaves(Next&& next, Change&& change);
  template <class Change>
  std::uint64_t protect_leaves_some(Input first, std::uint64_t size, unsigned budget, Change&& change);

  // Breaks the leaf that `input` is in, makes every CPU forget it, calls make(Mapping of its base), which may
  // copy or scrub in peace, and maps the {PhysAddr, Attributes} that `make` returns in its place. kNotFound
  // if nothing is mapped.
  struct Leaf {
    PhysAddr address;  // aligned to the leaf's size
    Attributes attributes;
  };
  template <class Make>
  [[nodiscard]] Result<> replace(Input input, Make&& make);

  // Splits the leaf that `input` is in until none is larger than `level`. No translation changes.
  [[nodiscard]] Result<> split(Input input, unsigned level = kLastLevel);
  // Makes one leaf of `level` (1 or 2) of the table of equal, contiguous leaves that is there. kNotFound:
  // there is no table; kBusy: its leaves are not all there, not contiguous, not aligned or not equal.
  [[nodiscard]] Result<> merge(Input input, unsigned level);

 private:
  struct Range {
    std::uint64_t first;
    std::uint64_t end;
  };
  // The state of a pass that can stop early.
  struct Pass {
    unsigned budget;
    std::uint64_t stop;  // where to go on
    bool broke = false;
    bool changed = false;
    bool stopped = false;
  };

  // Table pages taken before an operation commits, linked through their first entry. Returns what was not
  // used.
  class Reserve {
   public:
    explicit Reserve(PageTable& owner) : owner_(owner) {}
    Reserve(const Reserve&) = delete;
    Reserve& operator=(const Reserve&) = delete;
    ~Reserve() {
      while (count_ != 0) owner_.environment_.free_table(take_page());
    }
    [[nodiscard]] Result<> fill(unsigned count) {
      if (count == 0) return {};
      if (count > owner_.table_limit_ - std::min(owner_.table_limit_, owner_.tables_)) {
        return std::unexpected(Error::kLimit);
      }
      for (; count != 0; --count) {
        const Result<PhysAddr> page = owner_.environment_.allocate_table();
        if (!page) return std::unexpected(page.error());
        *owner_.environment_.table_at(*page) = head_.value();
        head_ = *page;
        ++count_;
      }
      return {};
    }
    [[nodiscard]] PhysAddr take() {
      ++owner_.tables_;
      return take_page();
    }

   private:
    PhysAddr take_page() {
      Entry* link = owner_.environment_.table_at(head_);
      const PhysAddr page = head_;
      head_ = PhysAddr(*link);
      *link = 0;
      --count_;
      return page;
    }

    PageTable& owner_;
    PhysAddr head_;
    unsigned count_ = 0;
  };

  template <unsigned kLevel>
  [[nodiscard]] static constexpr unsigned index_of(std::uint64_t input) {
    if constexpr (kLevel == 1) return static_cast<unsigned>(input >> level_shift(1));
    return static_cast<unsigned>(input >> level_shift(kLevel)) & (kEntriesPerTable - 1);
  }
  [[nodiscard]] static unsigned index_at(std::uint64_t input, unsigned level) {
    const auto index = static_cast<unsigned>(input >> level_shift(level));
    return level == 1 ? index : index & (kEntriesPerTable - 1);
  }
  [[nodiscard]] static Result<Range> check(Input first, std::uint64_t size) {
    const std::uint64_t start = first.value();
    if (size == 0 || ((start | size) & (kPageSize - 1)) != 0) return std::unexpected(Error::kInvalid);
    if (size > kInputSize || start > kInputSize - size) return std::unexpected(Error::kOutOfRange);
    return Range{start, start + size};
  }
  [[nodiscard]] static Input input_at(std::uint64_t value) { return Input(static_cast<typename Input::Value>(value)); }

  [[nodiscard]] Entry* root_table() const { return environment_.table_at(root_); }
  [[nodiscard]] Entry* child_of(Entry entry) const { return environment_.table_at(entry_address(entry)); }
  [[nodiscard]] static Mapping mapping_of(Entry entry, unsigned level, std::uint64_t input) {
    return {PhysAddr(entry_address(entry).value() | (input & (level_size(level) - 1))),
            Attributes::from_bits(leaf_attributes(entry)), level};
  }

  void write(Entry* entry, Entry value) {
    environment_.store(entry, value);
    environment_.clean(entry, 1);
  }
  // Occupancy is in bits that the walk ignores, so nobody has to be told.
  void add_occupancy(Entry* entry, Entry value, unsigned added) {
    if (added != 0) write(entry, value + (Entry{added} << kOccupancyShift));
  }
  void remove_occupancy(Entry* entry, Entry value, unsigned removed) {
    if (removed != 0) write(entry, value - (Entry{removed} << kOccupancyShift));
  }
  void free_table(PhysAddr table) {
    --tables_;
    environment_.free_table(table);
  }

  // Calls f(entry pointer, its part of the range) for each entry of `table` that the range touches, until f
  // says false.
  template <unsigned kLevel, class F>
  void for_each_entry(Entry* table, Range range, F&& f) const {
    Entry* entry = table + index_of<kLevel>(range.first);
    for (std::uint64_t at = range.first; at < range.end; ++entry) {
      const std::uint64_t next = std::min(range.end, (at | (level_size(kLevel) - 1)) + 1);
      if (!f(entry, Range{at, next})) return;
      at = next;
    }
  }
  template <unsigned kLevel>
  [[nodiscard]] static bool covers(Range range) {
    return range.end - range.first == level_size(kLevel);
  }

  // break_entries() makes entries broken and says whether there are any; then, and after the TLBs forgot,
  // make().
  template <class Break, class Make>
  void break_then_make(const Range& range, Break&& break_entries, Make&& make) {
    if (!break_entries()) return;
    environment_.dsb();
    environment_.invalidate(range.first, range.end - range.first);
    environment_.dsb();
    make();
  }

  // The deepest entry on the way to `input`: a leaf, or an invalid entry.
  struct Position {
    Entry* entry;
    Entry value;
    Entry* parent;  // the table entry above; null in the root
    unsigned level;
  };
  [[nodiscard]] Position find(std::uint64_t input, unsigned deepest = kLastLevel) const {
    Entry* parent = nullptr;
    Entry* table = root_table();
    for (unsigned level = 1;; ++level) {
      Entry* entry = table + index_at(input, level);
      const Entry value = environment_.load(entry);
      if (level == deepest || !is_valid(value) || !is_table(value, level)) return {entry, value, parent, level};
      parent = entry;
      table = child_of(value);
    }
  }
  // The same for the path of a fault, each level with its own constants: a shift of 64 bits by a variable takes this CPU ten
  // instructions.
  template <unsigned kLevel>
  [[nodiscard, gnu::always_inline]] Position find_in(Entry* table, std::uint64_t input, unsigned deepest,
                                                     Entry* parent) const {
    Entry* entry = table + index_of<kLevel>(input);
    const Entry value = environment_.load(entry);
    if constexpr (kLevel < kLastLevel) {
      if (kLevel < deepest && is_valid(value) && is_table(value, kLevel)) {
        return find_in<kLevel + 1>(child_of(value), input, deepest, entry);
      }
    }
    return {entry, value, parent, kLevel};
  }

  template <unsigned kLevel>
  [[nodiscard]] std::optional<Mapping> query_in(Entry* table, std::uint64_t input) const;
  template <unsigned kLevel>
  [[nodiscard]] static bool fits(Range range, PhysAddr physical, unsigned largest_level) {
    return kLevel >= largest_level && covers<kLevel>(range) && physical.is_aligned(level_size(kLevel));
  }
  template <unsigned kLevel>
  [[nodiscard]] Result<unsigned> count_tables(Entry* table, Range range, PhysAddr physical,
                                              unsigned largest_level) const;
  template <unsigned kLevel>
  unsigned map_entries(Entry* table, Range range, PhysAddr physical, unsigned largest_level, Attributes attributes,
                       Reserve& reserve);
  template <unsigned kLevel>
  unsigned break_entries(Entry* table, Range range, Pass& pass);
  template <unsigned kLevel, class Visitor>
  unsigned release_entries(Entry* table, Range range, Visitor& visitor);
  template <unsigned kLevel, class Visitor>
  void release_table(Entry* table, std::uint64_t input, Visitor& visitor);
  template <unsigned kLevel, class Change>
  void change_entries(Entry* table, Range range, Pass& pass, Change& change);
  template <unsigned kLevel, class Change>
  void remake_entries(Entry* table, Range range, Change& change);
  template <unsigned kLevel, class Visitor>
  void visit_entries(Entry* table, Range range, Visitor& visitor) const;
  template <unsigned kLevel>
  [[nodiscard]] std::uint64_t next_mapped_in(Entry* table, Range range) const;

  // Splitting a leaf so that a boundary falls between leaves.
  [[nodiscard]] unsigned splits_for(std::uint64_t boundary) const;
  [[nodiscard]] Result<> split_at_edges(Range range);
  void split_at(std::uint64_t boundary, Reserve& reserve);
  void split_leaf(const Position& position, std::uint64_t input, Reserve& reserve);
  [[nodiscard]] bool is_contiguous(const Entry* entries, Entry first, std::uint64_t size) const;

  Environment& environment_;
  PhysAddr root_;
  unsigned tables_ = 0;
  unsigned table_limit_ = kNoBudget;
};

}  // namespace cadastre

#include "mm/translation/page_table_lookup.hh"  // IWYU pragma: export
