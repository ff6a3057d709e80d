// Stage2's operations. Included by stage2.hh, at its end.
#pragma once

#include "mm/translation/page_table_change.hh"

namespace cadastre {

template <Stage2Environment E>
Result<FaultAnswer> Stage2<E>::serve_fault(IpaAddr ipa, Access access, const RamRange& ram) {
  if (!ram.contains(ipa)) return std::unexpected(Error::kOutOfRange);
  const auto mapping = table_.query(ipa);
  if (!mapping) {
    if (const Result<> done = populate(ipa, access, ram); !done) return std::unexpected(done.error());
    return FaultAnswer::kRetry;
  }
  const Stage2Attributes attributes = mapping->attributes;
  if (attributes.allow(access)) return FaultAnswer::kRetry;  // another CPU was faster, or its TLB forgot late
  if (access != Access::kWrite) return FaultAnswer::kDenied;
  if (attributes.copy_on_write()) {
    if (const Result<> done = copy_on_write(ipa, *mapping); !done) return std::unexpected(done.error());
    return FaultAnswer::kRetry;
  }
  if (!attributes.write_logged()) return FaultAnswer::kDenied;
  log_write(ipa, *mapping);
  return FaultAnswer::kRetry;
}

// The largest leaf around `ipa` that the policy wants, the range holds, the tables have room for and the zone
// can give.
template <Stage2Environment E>
Result<> Stage2<E>::populate(IpaAddr ipa, Access access, const RamRange& ram) {
  const bool logging = log_.covers(ipa);
  const unsigned largest = logging ? std::max(ram.largest_level, log_.level()) : ram.largest_level;
  for (unsigned level = largest;; ++level) {
    const IpaAddr base = ipa.aligned_down(level_size(level));
    if (level != kLastLevel && (!ram.contains(base, level_size(level)) || !table_.is_empty(base, level))) continue;
    const Result<PhysAddr> frame = environment_.allocate_frame(base, level);
    if (!frame) {
      if (level == kLastLevel) return std::unexpected(frame.error());
      continue;
    }
    const bool write = access == Access::kWrite;
    const Stage2Attributes attributes = logging && !write ? logged(Stage2Attributes::ram()) : Stage2Attributes::ram();
    const Result<> mapped = table_.map_leaf(base, *frame, level, attributes);
    if (!mapped) {
      environment_.free_frame(*frame, level);
      return mapped;
    }
    if (logging && write) log_.mark(base, level_size(level));
    return {};
  }
}

template <Stage2Environment E>
Result<std::uint64_t> Stage2<E>::populate_some(IpaAddr from, const RamRange& ram, unsigned budget) {
  const IpaAddr end = ram.first + ram.size;
  IpaAddr at = from;
  for (; at < end && budget != 0; --budget) {
    if (!table_.query(at)) {
      if (const Result<> done = populate(at, Access::kRead, ram); !done) return std::unexpected(done.error());
    }
    const std::uint64_t size = table_.query(at).value_or(Mapping{}).size();
    at = std::min(at.aligned_down(size) + size, end);
  }
  return at - from;
}

template <Stage2Environment E>
Result<PhysAddr> Stage2<E>::prepare_write(IpaAddr ipa, const RamRange& ram) {
  // Permissions are the guest's, not the hypervisor's: what is read-only to the guest may still be loaded.
  const Result<FaultAnswer> answer = serve_fault(ipa, Access::kWrite, ram);
  if (!answer) return std::unexpected(answer.error());
  if (log_.covers(ipa)) log_.mark(ipa, 1);
  return table_.query(ipa).value_or(Mapping{}).address;
}

template <Stage2Environment E>
template <class Visitor>
std::uint64_t Stage2<E>::release_some(std::uint64_t from, unsigned budget, Visitor&& visitor) {
  const std::uint64_t first = from < kInputSize ? table_.next_mapped(IpaAddr(from)) : kInputSize;
  if (first >= kInputSize) return kInputSize;
  const Result<std::uint64_t> done = table_.unmap_some(IpaAddr(first), kInputSize - first, budget, visitor);
  CHECK(done.has_value());  // next_mapped stops at a leaf's first address, so nothing has to be split
  return first + *done;
}

template <Stage2Environment E>
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

template <Stage2Environment E>
Result<> Stage2<E>::share(IpaAddr first, std::uint64_t size) {
  return table_.protect(first, size, [](const Mapping& mapping) {
    return unlogged(mapping.attributes).with_write(false).with_copy_on_write(true);
  });
}

template <Stage2Environment E>
Result<> Stage2<E>::copy_on_write(IpaAddr ipa, const Mapping& mapping) {
  const IpaAddr page = ipa.aligned_down(kPageSize);
  const PhysAddr shared = mapping.address.aligned_down(kPageSize);
  if (mapping.level != kLastLevel) {
    if (const Result<> split = table_.split(page); !split) return split;
  }
  // Nobody may write to a shared page, so the copy can be made before the break, and the break is short.
  const Result<PhysAddr> copy = environment_.private_copy(page, shared);
  if (!copy) return std::unexpected(copy.error());
  const Stage2Attributes attributes = mapping.attributes.with_copy_on_write(false).with_write(true);
  if (*copy == shared) {
    change_leaf(page, attributes);
    merge_from_ = 0;
  } else {
    const Result<> replaced =
        table_.replace(page, [&](const Mapping&) { return typename Table::Leaf{*copy, attributes}; });
    CHECK(replaced.has_value());
    environment_.drop_shared(shared);
  }
  if (log_.covers(page)) log_.mark(page, kPageSize);
  return {};
}

// ---- Dirty log

// Gives one leaf other rights.
template <Stage2Environment E>
void Stage2<E>::change_leaf(IpaAddr ipa, Stage2Attributes attributes) {
  table_.protect_leaves_some(ipa.aligned_down(kPageSize), kPageSize, 1, [&](const Mapping&) { return attributes; });
}

template <Stage2Environment E>
void Stage2<E>::log_write(IpaAddr ipa, const Mapping& mapping) {
  unsigned level = mapping.level;
  if (log_.covers(ipa) && level < log_.level() && table_.split(ipa, log_.level())) level = log_.level();
  // Without a table for the split, all of the block becomes writable and counts as dirty.
  change_leaf(ipa, unlogged(mapping.attributes));
  if (log_.is_active()) log_.mark(ipa.aligned_down(level_size(level)), level_size(level));
}

template <Stage2Environment E>
std::uint64_t Stage2<E>::protect_log_some(std::uint64_t done, unsigned budget) {
  const std::uint64_t left = log_.size() - done;
  if (left == 0) return done;
  const std::uint64_t protected_bytes = table_.protect_leaves_some(
      log_.first() + done, left, budget, [](const Mapping& mapping) { return logged(mapping.attributes); });
  return done + protected_bytes;
}

template <Stage2Environment E>
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

template <Stage2Environment E>
Result<std::uint64_t> Stage2<E>::unprotect_some(IpaAddr first, std::uint64_t size, unsigned budget) {
  return table_.protect_some(first, size, budget, [](const Mapping& mapping) { return unlogged(mapping.attributes); });
}

// ---- Merging

template <Stage2Environment E>
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

template <Stage2Environment E>
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
