// PageTable's operations that change it: for who instantiates one (arch/armv7/hyp_table.cc), and for what is a template itself.
#pragma once

#include "mm/translation/page_table.hh"

namespace cadastre {

// ---- Map: count the tables that are missing, take them, then fill new tables before they are linked.

template <class G, TableEnvironment E>
Result<> PageTable<G, E>::map(Input first, PhysAddr physical, std::uint64_t size, Attributes attributes,
                              unsigned largest_level) {
  const Result<Range> range = check(first, size);
  if (!range) return std::unexpected(range.error());
  if (!physical.is_aligned(kPageSize) || largest_level == 0 || largest_level > kLastLevel) {
    return std::unexpected(Error::kInvalid);
  }
  constexpr std::uint64_t kPhysSize = std::uint64_t{1} << kPhysBits;
  if (size > kPhysSize || physical.value() > kPhysSize - size) return std::unexpected(Error::kOutOfRange);
  const Result<unsigned> missing = count_tables<1>(root_table(), *range, physical, largest_level);
  if (!missing) return std::unexpected(missing.error());
  Reserve reserve(*this);
  if (const Result<> taken = reserve.fill(*missing); !taken) return taken;
  map_entries<1>(root_table(), *range, physical, largest_level, attributes, reserve);
  environment_.dsb();
  return {};
}

// `table` may be null: one that does not exist yet.
template <class G, TableEnvironment E>
template <unsigned kLevel>
Result<unsigned> PageTable<G, E>::count_tables(Entry* table, Range range, PhysAddr physical,
                                               unsigned largest_level) const {
  unsigned missing = 0;  // NOLINT(misc-const-correctness): not at the last level
  const std::uint64_t offset = physical.value() - range.first;
  for (std::uint64_t at = range.first; at < range.end;) {
    const Range part{at, std::min(range.end, (at | (level_size(kLevel) - 1)) + 1)};
    at = part.end;
    const Entry value = table == nullptr ? 0 : environment_.load(table + index_of<kLevel>(part.first));
    const bool leaf = fits<kLevel>(part, PhysAddr(part.first + offset), largest_level);
    // No table is empty, so a valid entry where a leaf should go is something mapped.
    if (is_leaf(value, kLevel) || (leaf && is_valid(value))) return std::unexpected(Error::kOverlap);
    if constexpr (kLevel < kLastLevel) {
      if (leaf) continue;
      Entry* child = nullptr;
      if (is_valid(value)) {
        child = child_of(value);
      } else {
        ++missing;
      }
      const Result<unsigned> below =
          count_tables<kLevel + 1>(child, part, PhysAddr(part.first + offset), largest_level);
      if (!below) return below;
      missing += *below;
    }
  }
  return missing;
}

// Returns how many entries of `table` came into use.
template <class G, TableEnvironment E>
template <unsigned kLevel>
unsigned PageTable<G, E>::map_entries(Entry* table, Range range, PhysAddr physical, unsigned largest_level,
                                      Attributes attributes, Reserve& reserve) {
  unsigned added = 0;
  const std::uint64_t offset = physical.value() - range.first;
  for_each_entry<kLevel>(table, range, [&](Entry* entry, Range part) {
    const PhysAddr target(part.first + offset);
    if (kLevel == kLastLevel || fits<kLevel>(part, target, largest_level)) {
      write(entry, make_leaf(target, kLevel, attributes.bits()));
      ++added;
    } else if constexpr (kLevel < kLastLevel) {
      const Entry value = environment_.load(entry);
      if (is_valid(value)) {
        add_occupancy(entry, value,
                      map_entries<kLevel + 1>(child_of(value), part, target, largest_level, attributes, reserve));
      } else {
        const PhysAddr child = reserve.take();
        Entry* entries = environment_.table_at(child);
        environment_.clean(entries, kEntriesPerTable);
        const unsigned used = map_entries<kLevel + 1>(entries, part, target, largest_level, attributes, reserve);
        environment_.dsb();  // the new table's entries, before the walk can reach them
        write(entry, make_table(child, used));
        ++added;
      }
    }
    return true;
  });
  return added;
}

template <class G, TableEnvironment E>
Result<> PageTable<G, E>::map_leaf(Input input, PhysAddr physical, unsigned level, Attributes attributes) {
  const std::uint64_t at = input.value();
  if (level == 0 || level > kLastLevel) return std::unexpected(Error::kInvalid);
  const auto low_bits = static_cast<std::uint32_t>(at | physical.value());  // the largest leaf has 30
  if ((low_bits & ((1U << level_shift(level)) - 1)) != 0) return std::unexpected(Error::kInvalid);
  if (at >= kInputSize || physical.value() >> kPhysBits != 0) return std::unexpected(Error::kOutOfRange);
  const Position position = find_in<1>(root_table(), at, level, nullptr);
  if (is_valid(position.value)) return std::unexpected(Error::kOverlap);
  const unsigned missing = level - position.level;
  Entry value = make_leaf(physical, level, attributes.bits());
  if (missing != 0) {
    Reserve reserve(*this);
    if (const Result<> taken = reserve.fill(missing); !taken) return taken;
    for (unsigned below = level; below > position.level; --below) {  // from the leaf up; linked by the last store
      const PhysAddr table = reserve.take();
      Entry* entries = environment_.table_at(table);
      environment_.store(entries + index_at(at, below), value);
      environment_.clean(entries, kEntriesPerTable);
      value = make_table(table, 1);
    }
    environment_.dsb();
  }
  write(position.entry, value);
  if (position.parent != nullptr) add_occupancy(position.parent, environment_.load(position.parent), 1);
  environment_.dsb();
  return {};
}

// ---- Unmap: break what is in the range; after the flush, release it.

template <class G, TableEnvironment E>
Result<> PageTable<G, E>::unmap(Input first, std::uint64_t size) {
  return unmap(first, size, [](Input, const Mapping&) {});
}

template <class G, TableEnvironment E>
template <class Visitor>
Result<> PageTable<G, E>::unmap(Input first, std::uint64_t size, Visitor&& visitor) {
  const Result<std::uint64_t> done = unmap_some(first, size, kNoBudget, visitor);
  if (!done) return std::unexpected(done.error());
  return {};
}

template <class G, TableEnvironment E>
template <class Visitor>
Result<std::uint64_t> PageTable<G, E>::unmap_some(Input first, std::uint64_t size, unsigned budget, Visitor&& visitor) {
  const Result<Range> checked = check(first, size);
  if (!checked) return std::unexpected(checked.error());
  Range range = *checked;
  if (const Result<> edges = split_at_edges(range); !edges) return std::unexpected(edges.error());
  Pass pass{.budget = budget, .stop = range.end};
  break_then_make(
      range,
      [&] {
        break_entries<1>(root_table(), range, pass);
        range.end = pass.stop;
        return pass.broke;
      },
      [&] { release_entries<1>(root_table(), range, visitor); });
  return pass.stop - range.first;
}

// Returns how many entries of `table` it broke. A table whose entries are all to go is broken as a whole, by
// its own entry, if the budget allows for all that it can hold; one that turns out to be all broken is broken
// too.
template <class G, TableEnvironment E>
template <unsigned kLevel>
unsigned PageTable<G, E>::break_entries(Entry* table, Range range, Pass& pass) {
  unsigned count = 0;
  for_each_entry<kLevel>(table, range, [&](Entry* entry, Range part) {
    const Entry value = environment_.load(entry);
    if (!is_valid(value)) return true;
    if (pass.budget == 0) {
      pass.stop = part.first;
      pass.stopped = true;
      return false;
    }
    unsigned cost = 1;  // NOLINT(misc-const-correctness): not at the last level
    if constexpr (kLevel < kLastLevel) {
      if (is_table(value, kLevel)) {
        constexpr unsigned kLeavesBelow = kLevel == 2 ? kEntriesPerTable : kEntriesPerTable * kEntriesPerTable;
        if (!covers<kLevel>(part) || (kLevel == 1 && pass.budget < kLeavesBelow)) {
          if (break_entries<kLevel + 1>(child_of(value), part, pass) != table_occupancy(value)) return !pass.stopped;
          cost = 0;  // paid below
        } else {
          cost = kLevel == 2 ? table_occupancy(value) : kLeavesBelow;
        }
      }
    }
    pass.budget -= std::min(pass.budget, cost);
    pass.broke = true;
    write(entry, broken(value));
    ++count;
    return !pass.stopped;
  });
  return count;
}

// Returns how many entries of `table` are free now.
template <class G, TableEnvironment E>
template <unsigned kLevel, class Visitor>
unsigned PageTable<G, E>::release_entries(Entry* table, Range range, Visitor& visitor) {
  unsigned count = 0;
  for_each_entry<kLevel>(table, range, [&](Entry* entry, Range part) {
    const Entry value = environment_.load(entry);
    if (value == 0) return true;
    if constexpr (kLevel < kLastLevel) {
      if (is_table(value, kLevel)) {
        if (is_valid(value)) {
          remove_occupancy(entry, value, release_entries<kLevel + 1>(child_of(value), part, visitor));
          return true;
        }
        release_table<kLevel + 1>(child_of(value), part.first & ~(level_size(kLevel) - 1), visitor);
        free_table(entry_address(value));
      }
    }
    if (!is_table(value, kLevel)) visitor(input_at(part.first), mapping_of(value, kLevel, part.first));
    write(entry, 0);
    ++count;
    return true;
  });
  return count;
}

// All of a table that nobody can reach any more, whether broken entry by entry or as a whole.
template <class G, TableEnvironment E>
template <unsigned kLevel, class Visitor>
void PageTable<G, E>::release_table(Entry* table, std::uint64_t input, Visitor& visitor) {
  for (unsigned i = 0; i < kEntriesPerTable; ++i) {
    const Entry value = table[i];
    if (value == 0) continue;
    const std::uint64_t at = input + i * level_size(kLevel);
    if constexpr (kLevel < kLastLevel) {
      if (is_table(value, kLevel)) {
        release_table<kLevel + 1>(child_of(value), at, visitor);
        free_table(entry_address(value));
        continue;
      }
    }
    visitor(input_at(at), mapping_of(value, kLevel, at));
  }
}

// ---- Protect: permissions change in place, what must not is broken and made anew; one flush for all.

template <class G, TableEnvironment E>
template <class Change>
Result<> PageTable<G, E>::protect(Input first, std::uint64_t size, Change&& change) {
  const Result<std::uint64_t> done = protect_some(first, size, kNoBudget, change);
  if (!done) return std::unexpected(done.error());
  return {};
}

template <class G, TableEnvironment E>
template <class Change>
Result<std::uint64_t> PageTable<G, E>::protect_some(Input first, std::uint64_t size, unsigned budget, Change&& change) {
  const Result<Range> checked = check(first, size);
  if (!checked) return std::unexpected(checked.error());
  Range range = *checked;
  if (const Result<> edges = split_at_edges(range); !edges) return std::unexpected(edges.error());
  Pass pass{.budget = budget, .stop = range.end};
  break_then_make(
      range,
      [&] {
        change_entries<1>(root_table(), range, pass, change);
        range.end = pass.stop;
        return pass.broke || pass.changed;
      },
      [&] {
        if (!pass.broke) return;
        remake_entries<1>(root_table(), range, change);
        environment_.dsb();
      });
  return pass.stop - range.first;
}

template <class G, TableEnvironment E>
template <class Next, class Change>
void PageTable<G, E>::protect_leaves(Next&& next, Change&& change) {
  Pass pass{.budget = kNoBudget, .stop = 0};
  Range all{kInputSize, 0};
  break_then_make(
      all,
      [&] {
        for (auto part = next(); part; part = next()) {
          const Range range{part->first.value(), part->first.value() + part->second};
          all = {std::min(all.first, range.first), std::max(all.end, range.end)};
          change_entries<1>(root_table(), range, pass, change);
        }
        CHECK(!pass.broke);
        return pass.changed;
      },
      [] {});
}

template <class G, TableEnvironment E>
template <class Change>
std::uint64_t PageTable<G, E>::protect_leaves_some(Input first, std::uint64_t size, unsigned budget, Change&& change) {
  Range range{first.value(), first.value() + size};
  Pass pass{.budget = budget, .stop = range.end};
  break_then_make(
      range,
      [&] {
        change_entries<1>(root_table(), range, pass, change);
        CHECK(!pass.broke);
        return pass.changed;
      },
      [] {});
  return pass.stop - range.first;
}

template <class G, TableEnvironment E>
template <unsigned kLevel, class Change>
void PageTable<G, E>::change_entries(Entry* table, Range range, Pass& pass, Change& change) {
  for_each_entry<kLevel>(table, range, [&](Entry* entry, Range part) {
    const Entry value = environment_.load(entry);
    if (!is_valid(value)) return true;
    if (pass.budget == 0) {
      pass.stop = part.first;
      pass.stopped = true;
      return false;
    }
    if constexpr (kLevel < kLastLevel) {
      if (is_table(value, kLevel)) {
        change_entries<kLevel + 1>(child_of(value), part, pass, change);
        return !pass.stopped;
      }
    }
    --pass.budget;
    const Attributes from = Attributes::from_bits(leaf_attributes(value));
    const Attributes to = change(mapping_of(value, kLevel, part.first));
    if (to == from) return true;
    if (G::needs_break(from, to)) {
      write(entry, broken(value));
      pass.broke = true;
    } else {
      write(entry, make_leaf(entry_address(value), kLevel, to.bits()));
      if (((to.bits() ^ from.bits()) & ~kLeafSoftwareMask) != 0) pass.changed = true;
    }
    return true;
  });
}

template <class G, TableEnvironment E>
template <unsigned kLevel, class Change>
void PageTable<G, E>::remake_entries(Entry* table, Range range, Change& change) {
  for_each_entry<kLevel>(table, range, [&](Entry* entry, Range part) {
    const Entry value = environment_.load(entry);
    if (is_broken(value)) {
      const Attributes to = change(mapping_of(value, kLevel, part.first));
      write(entry, make_leaf(entry_address(value), kLevel, to.bits()));
    } else if constexpr (kLevel < kLastLevel) {
      if (is_table(value, kLevel)) remake_entries<kLevel + 1>(child_of(value), part, change);
    }
    return true;
  });
}

template <class G, TableEnvironment E>
template <class Make>
Result<> PageTable<G, E>::replace(Input input, Make&& make) {
  const std::uint64_t at = input.value();
  if (at >= kInputSize) return std::unexpected(Error::kOutOfRange);
  const Position position = find(at);
  if (!is_valid(position.value)) return std::unexpected(Error::kNotFound);
  const std::uint64_t base = at & ~(level_size(position.level) - 1);
  break_then_make(
      Range{base, base + level_size(position.level)},
      [&] {
        write(position.entry, broken(position.value));
        return true;
      },
      [&] {
        const Leaf leaf = make(mapping_of(position.value, position.level, base));
        write(position.entry, make_leaf(leaf.address, position.level, leaf.attributes.bits()));
        environment_.dsb();
      });
  return {};
}

// ---- Split and merge

template <class G, TableEnvironment E>
Result<> PageTable<G, E>::split(Input input, unsigned level) {
  const std::uint64_t at = input.value();
  if (at >= kInputSize) return std::unexpected(Error::kOutOfRange);
  if (level == 0 || level > kLastLevel) return std::unexpected(Error::kInvalid);
  Position position = find(at);
  if (!is_valid(position.value)) return std::unexpected(Error::kNotFound);
  if (position.level >= level) return {};
  Reserve reserve(*this);
  if (const Result<> taken = reserve.fill(level - position.level); !taken) return taken;
  for (; position.level < level; position = find(at)) split_leaf(position, at, reserve);
  return {};
}

template <class G, TableEnvironment E>
void PageTable<G, E>::split_leaf(const Position& position, std::uint64_t input, Reserve& reserve) {
  const unsigned below = position.level + 1;
  const PhysAddr table = reserve.take();
  Entry* entries = environment_.table_at(table);
  const PhysAddr base = entry_address(position.value);
  const Entry attributes = leaf_attributes(position.value);
  for (unsigned i = 0; i < kEntriesPerTable; ++i) {
    environment_.store(entries + i, make_leaf(base + i * level_size(below), below, attributes));
  }
  environment_.clean(entries, kEntriesPerTable);
  const std::uint64_t first = input & ~(level_size(position.level) - 1);
  break_then_make(
      Range{first, first + level_size(position.level)},
      [&] {
        write(position.entry, broken(position.value));
        return true;
      },
      [&] {
        write(position.entry, make_table(table, kEntriesPerTable));
        environment_.dsb();
      });
}

// How many leaves have to be split so that `boundary` does not cut one.
template <class G, TableEnvironment E>
unsigned PageTable<G, E>::splits_for(std::uint64_t boundary) const {
  if (boundary >= kInputSize) return 0;
  const Position position = find(boundary);
  if (!is_valid(position.value)) return 0;
  unsigned splits = 0;
  for (unsigned level = position.level; level < kLastLevel && (boundary & (level_size(level) - 1)) != 0; ++level) {
    ++splits;
  }
  return splits;
}

template <class G, TableEnvironment E>
void PageTable<G, E>::split_at(std::uint64_t boundary, Reserve& reserve) {
  while (splits_for(boundary) != 0) split_leaf(find(boundary), boundary, reserve);
}

template <class G, TableEnvironment E>
Result<> PageTable<G, E>::split_at_edges(Range range) {
  const unsigned at_first = splits_for(range.first);
  const unsigned at_end = splits_for(range.end);
  if (at_first + at_end == 0) return {};
  // What both edges cut is split once: if one leaf holds both, its level, and the next while they stay
  // together.
  unsigned shared = 0;
  if (at_first != 0 && at_end != 0) {
    for (unsigned level = find(range.first).level; level < kLastLevel && shared < std::min(at_first, at_end); ++level) {
      if (range.first >> level_shift(level) != range.end >> level_shift(level)) break;
      ++shared;
    }
  }
  Reserve reserve(*this);
  if (const Result<> taken = reserve.fill(at_first + at_end - shared); !taken) return taken;
  split_at(range.first, reserve);
  split_at(range.end, reserve);
  return {};
}

// Whether a table's entries are leaves of `size`, equal but for their addresses, which follow each other. By itself, so that
// the loop has the registers it needs.
template <class G, TableEnvironment E>
[[gnu::noinline]] bool PageTable<G, E>::is_contiguous(const Entry* entries, Entry first, std::uint64_t size) const {
  Entry expected = first;
  for (const Entry* end = entries + kEntriesPerTable; entries != end; ++entries) {
    if (environment_.load(entries) != expected) return false;
    expected += size;
  }
  return true;
}

template <class G, TableEnvironment E>
Result<> PageTable<G, E>::merge(Input input, unsigned level) {
  const std::uint64_t at = input.value();
  if (at >= kInputSize) return std::unexpected(Error::kOutOfRange);
  if (level == 0 || level >= kLastLevel) return std::unexpected(Error::kInvalid);
  const Position position = find(at, level);
  if (position.level != level || !is_valid(position.value) || !is_table(position.value, level)) {
    return std::unexpected(Error::kNotFound);
  }
  if (table_occupancy(position.value) != kEntriesPerTable) return std::unexpected(Error::kBusy);
  Entry* entries = child_of(position.value);
  const Entry first = environment_.load(entries);
  if (!is_leaf(first, level + 1) || !entry_address(first).is_aligned(level_size(level))) {
    return std::unexpected(Error::kBusy);
  }
  if (!is_contiguous(entries, first, level_size(level + 1))) return std::unexpected(Error::kBusy);
  const std::uint64_t base = at & ~(level_size(level) - 1);
  break_then_make(
      Range{base, base + level_size(level)},
      [&] {
        write(position.entry, broken(position.value));
        return true;
      },
      [&] {
        write(position.entry, make_leaf(entry_address(first), level, leaf_attributes(first)));
        environment_.dsb();
        free_table(entry_address(position.value));
      });
  return {};
}

}  // namespace cadastre
