// Stage2's operations. Included by stage2.hh, at its end.
#pragma once

#include "mm/translation/page_table_change.hh"

namespace cadastre {

template <TableEnvironment E>
Result<FaultNeeds> Stage2<E>::look(IpaAddr ipa, Access access, const RamRange& ram, bool may_split) {
  if (!ram.contains(ipa)) return std::unexpected(Error::kOutOfRange);
  const auto [mapping, level] = table_.look_up(ipa);
  if (!mapping) [[likely]]
    return look_at_hole(ipa, level, ram);
  return look_at_leaf(ipa, access, *mapping, may_split);
}

// The largest leaf around `ipa` that the policy wants and the range holds.
template <TableEnvironment E>
FaultNeeds Stage2<E>::look_at_hole(IpaAddr ipa, unsigned hole, const RamRange& ram) const {
  using What = FaultNeeds::What;
  // In a table of pages there is no choice.
  if (hole == kLastLevel) return {.what = What::kFrame, .base = ipa.aligned_down(kPageSize)};
  unsigned level = log_.covers(ipa) ? std::max(ram.largest_level, log_.level()) : ram.largest_level;
  level = std::max(level, hole);
  while (level != kLastLevel && !ram.contains(ipa.aligned_down(level_size(level)), level_size(level))) ++level;
  return {.what = What::kFrame, .level = level, .tables = level - hole, .base = ipa.aligned_down(level_size(level))};
}

template <TableEnvironment E>
FaultNeeds Stage2<E>::look_at_leaf(IpaAddr ipa, Access access, const Mapping& mapping, bool may_split) {
  using What = FaultNeeds::What;
  const Stage2Attributes attributes = mapping.attributes;
  if (attributes.allow(access)) return {};  // another CPU was faster, or its TLB forgot late
  if (access == Access::kWrite && attributes.copy_on_write()) {
    const IpaAddr page = ipa.aligned_down(kPageSize);
    if (mapping.level != kLastLevel) {
      return {.what = What::kSplit, .tables = kLastLevel - mapping.level, .base = page};
    }
    return {.what = What::kCopy, .base = page, .shared = mapping.address.aligned_down(kPageSize)};
  }
  if (access != Access::kWrite || !attributes.write_logged()) return {.answer = FaultAnswer::kDenied};
  if (may_split && log_.covers(ipa) && mapping.level < log_.level()) {
    return {.what = What::kSplit, .level = log_.level(), .tables = log_.level() - mapping.level, .base = ipa};
  }
  log_write(ipa, mapping);
  return {};
}

template <TableEnvironment E>
Result<bool> Stage2<E>::commit(const FaultNeeds& needs, Access access, PhysAddr frame) {
  if (needs.what == FaultNeeds::What::kFrame) [[likely]]
    return commit_frame(needs, access, frame);
  return needs.what == FaultNeeds::What::kCopy ? commit_copy(needs, frame) : commit_split(needs);
}

// Whatever it is by now: no translation changes.
template <TableEnvironment E>
Result<bool> Stage2<E>::commit_split(const FaultNeeds& needs) {
  if (const Result<> done = table_.split(needs.base, needs.level); !done && done.error() != Error::kNotFound) {
    return std::unexpected(done.error());
  }
  return true;
}

template <TableEnvironment E>
Result<bool> Stage2<E>::commit_frame(const FaultNeeds& needs, Access access, PhysAddr frame) {
  const bool logging = log_.covers(needs.base);
  if (logging && needs.level < log_.level()) return false;  // the log began meanwhile
  const bool write = access == Access::kWrite;
  const Stage2Attributes attributes = logging && !write ? logged(Stage2Attributes::ram()) : Stage2Attributes::ram();
  if (const Result<> mapped = table_.map_leaf(needs.base, frame, needs.level, attributes); !mapped) {
    if (mapped.error() == Error::kOverlap) return false;
    return std::unexpected(mapped.error());
  }
  if (logging && write) log_.mark(needs.base, level_size(needs.level));
  return true;
}

template <TableEnvironment E>
PhysAddr Stage2<E>::begin_write(IpaAddr ipa) {
  if (log_.covers(ipa)) log_.mark(ipa, 1);
  return table_.query(ipa).value_or(Mapping{}).address;
}

template <TableEnvironment E>
template <class Visitor>
std::uint64_t Stage2<E>::release_some(std::uint64_t from, unsigned budget, Visitor&& visitor) {
  const std::uint64_t first = from < kInputSize ? table_.next_mapped(IpaAddr(from)) : kInputSize;
  if (first >= kInputSize) return kInputSize;
  const std::uint64_t leaf = table_.query(IpaAddr(first)).value_or(Mapping{}).size();
  // Up to the next table, as one that is unmapped as a whole would not be in the budget.
  const std::uint64_t size =
      leaf == kPageSize ? std::min<std::uint64_t>(budget * kPageSize, kBlockSize - (first & (kBlockSize - 1))) : leaf;
  const Result<std::uint64_t> done = table_.unmap_some(IpaAddr(first), size, budget, visitor);
  CHECK(done.has_value());  // next_mapped stops at a leaf's first address, so nothing has to be split
  return first + *done;
}

template <TableEnvironment E>
template <class Visitor>
std::uint64_t Stage2<E>::visit_some(std::uint64_t from, unsigned budget, Visitor&& visitor) const {
  std::uint64_t at = from;
  for (; budget != 0 && at < kInputSize; --budget) {
    at = table_.next_mapped(IpaAddr(at));
    if (at >= kInputSize) break;
    const Mapping mapping = table_.query(IpaAddr(at)).value_or(Mapping{});
    visitor(IpaAddr(at), mapping);
    at = (at | (mapping.size() - 1)) + 1;
  }
  return at;
}

// ---- Copy on write

template <TableEnvironment E>
Result<> Stage2<E>::share(IpaAddr first, std::uint64_t size) {
  return table_.protect(first, size, [](const Mapping& mapping) {
    return unlogged(mapping.attributes).with_write(false).with_copy_on_write(true);
  });
}

template <TableEnvironment E>
bool Stage2<E>::is_copy_on_write(const FaultNeeds& needs) const {
  const auto mapping = table_.query(needs.base);
  return mapping && mapping->level == kLastLevel && mapping->address == needs.shared &&
         mapping->attributes.copy_on_write();
}

// Nobody may write to a shared page, so the copy was made before the break, and the break is short.
template <TableEnvironment E>
bool Stage2<E>::commit_copy(const FaultNeeds& needs, PhysAddr copy) {
  if (!is_copy_on_write(needs)) return false;
  const Result<> replaced = table_.replace(needs.base, [&](const Mapping& mapping) {
    return typename Table::Leaf{copy, mapping.attributes.with_copy_on_write(false).with_write(true)};
  });
  CHECK(replaced.has_value());
  if (log_.covers(needs.base)) log_.mark(needs.base, kPageSize);
  return true;
}

template <TableEnvironment E>
void Stage2<E>::commit_last_user(const FaultNeeds& needs) {
  CHECK(is_copy_on_write(needs));
  table_.protect_leaves_some(needs.base, kPageSize, 1, [&](const Mapping& mapping) {
    return mapping.attributes.with_copy_on_write(false).with_write(true);
  });
  merge_from_ = 0;
  if (log_.covers(needs.base)) log_.mark(needs.base, kPageSize);
}

// ---- Dirty log

// Gives one leaf other rights.
template <TableEnvironment E>
void Stage2<E>::change_leaf(IpaAddr ipa, Stage2Attributes attributes) {
  table_.protect_leaves_some(ipa.aligned_down(kPageSize), kPageSize, 1, [&](const Mapping&) { return attributes; });
}

template <TableEnvironment E>
void Stage2<E>::log_write(IpaAddr ipa, const Mapping& mapping) {
  change_leaf(ipa, unlogged(mapping.attributes));
  if (log_.is_active()) log_.mark(ipa.aligned_down(level_size(mapping.level)), level_size(mapping.level));
}

template <TableEnvironment E>
std::uint64_t Stage2<E>::protect_log_some(std::uint64_t done, unsigned budget) {
  const std::uint64_t left = log_.size() - done;
  if (left == 0) return done;
  const std::uint64_t protected_bytes = table_.protect_leaves_some(
      log_.first() + done, left, budget, [](const Mapping& mapping) { return logged(mapping.attributes); });
  return done + protected_bytes;
}

template <TableEnvironment E>
std::size_t Stage2<E>::fetch_log(std::size_t first_word, std::span<std::uint32_t> out) {
  if (first_word >= log_.words()) return 0;
  const std::size_t count = std::min(out.size(), log_.words() - first_word);
  for (std::size_t i = 0; i < count; ++i) out[i] = log_.take(first_word + i);
  const std::uint64_t granule = level_size(log_.level());
  const std::uint64_t per_word = granule * DirtyLog::kGranulesPerWord;
  // Runs of dirty granules within a word, with one flush for all of them.
  std::size_t word = 0;
  std::uint32_t bits = count == 0 ? 0 : out[0];
  table_.protect_leaves(
      [&]() -> std::optional<std::pair<IpaAddr, std::uint64_t>> {
        while (bits == 0) {
          if (++word >= count) return std::nullopt;
          bits = out[word];
        }
        const auto start = static_cast<unsigned>(std::countr_zero(bits));
        const auto length = static_cast<unsigned>(std::countr_one(bits >> start));
        bits = start + length == DirtyLog::kGranulesPerWord ? 0 : bits >> (start + length) << (start + length);
        return std::pair(log_.first() + (first_word + word) * per_word + start * granule, length * granule);
      },
      [](const Mapping& mapping) { return logged(mapping.attributes); });
  return count;
}

template <TableEnvironment E>
Result<std::uint64_t> Stage2<E>::unprotect_some(IpaAddr first, std::uint64_t size, unsigned budget) {
  return table_.protect_some(first, size, budget, [](const Mapping& mapping) { return unlogged(mapping.attributes); });
}

// ---- Merging

template <TableEnvironment E>
std::uint64_t Stage2<E>::merge_some(std::uint64_t from, unsigned budget, unsigned largest_level) {
  std::uint64_t at = from;
  for (; budget != 0 && at < kInputSize; --budget) {
    at = table_.next_mapped(IpaAddr(at));
    if (at >= kInputSize) break;
    const unsigned level = table_.query(IpaAddr(at)).value_or(Mapping{}).level;
    if (level == 1) {
      at = (at | (level_size(1) - 1)) + 1;
      continue;
    }
    if (level == kLastLevel && largest_level <= 2) static_cast<void>(table_.merge(IpaAddr(at), 2));
    const std::uint64_t next = (at | (kBlockSize - 1)) + 1;
    // The last block of a GiB: all of it may merge now.
    if (largest_level == 1 && (next & (level_size(1) - 1)) == 0) static_cast<void>(table_.merge(IpaAddr(at), 1));
    at = next;
  }
  return at;
}

template <TableEnvironment E>
bool Stage2<E>::merge_step(unsigned budget, unsigned largest_level) {
  if (log_.is_active()) return false;
  for (; budget != 0 && merge_from_ < kInputSize; --budget) {
    const std::uint64_t at = table_.next_mapped(IpaAddr(merge_from_));
    if (at >= kInputSize) {
      merge_from_ = kInputSize;
      break;
    }
    // The leaf, or all leaves of the table.
    const unsigned level = std::min(table_.query(IpaAddr(at)).value_or(Mapping{}).level, 2U);
    table_.protect_leaves_some(IpaAddr(at).aligned_down(level_size(level)), level_size(level), kEntriesPerTable,
                               [](const Mapping& mapping) { return unlogged(mapping.attributes); });
    merge_from_ = merge_some(at, 1, largest_level);
  }
  return merge_from_ < kInputSize;
}

}  // namespace cadastre
