// PageTable's operations that change nothing. Included by page_table.hh, at its end.
#pragma once

namespace cadastre {

// One level of `query` after the other, each with its own constants: this is on the path of every guest walk.
template <class G, TableEnvironment E>
template <unsigned kLevel>
[[gnu::always_inline]] inline auto PageTable<G, E>::query_in(Entry* table, std::uint64_t input) const
    -> std::optional<Mapping> {
  const Entry value = environment_.load(table + index_of<kLevel>(input));
  if constexpr (kLevel < kLastLevel) {
    if ((value & kEntryTypeMask) == kEntryTypeMask) return query_in<kLevel + 1>(child_of(value), input);
  }
  if (!is_valid(value)) return std::nullopt;
  return mapping_of(value, kLevel, input);
}

template <class G, TableEnvironment E>
auto PageTable<G, E>::query(Input input) const -> std::optional<Mapping> {
  const std::uint64_t at = input.value();
  if (at >= kInputSize) return std::nullopt;
  return query_in<1>(root_table(), at);
}

template <class G, TableEnvironment E>
template <class Step>
void PageTable<G, E>::walk(Input input, Step&& step) const {
  if (input.value() >= kInputSize) return;
  Entry* table = root_table();
  for (unsigned level = 1;; ++level) {
    const Entry value = environment_.load(table + index_at(input.value(), level));
    step(level, value);
    if (!is_valid(value) || !is_table(value, level)) return;
    table = child_of(value);
  }
}

template <class G, TableEnvironment E>
template <class Visitor>
void PageTable<G, E>::visit(Input first, std::uint64_t size, Visitor&& visitor) const {
  const Result<Range> range = check(first, size);
  if (range) visit_entries<1>(root_table(), *range, visitor);
}

template <class G, TableEnvironment E>
template <unsigned kLevel, class Visitor>
void PageTable<G, E>::visit_entries(Entry* table, Range range, Visitor& visitor) const {
  for_each_entry<kLevel>(table, range, [&](Entry* entry, Range part) {
    const Entry value = environment_.load(entry);
    if (is_leaf(value, kLevel)) {
      visitor(input_at(part.first), mapping_of(value, kLevel, part.first));
    } else if constexpr (kLevel < kLastLevel) {
      if (is_valid(value)) visit_entries<kLevel + 1>(child_of(value), part, visitor);
    }
    return true;
  });
}

template <class G, TableEnvironment E>
std::uint64_t PageTable<G, E>::next_mapped(Input input) const {
  if (input.value() >= kInputSize) return kInputSize;
  return next_mapped_in<1>(root_table(), {input.value(), kInputSize});
}

template <class G, TableEnvironment E>
template <unsigned kLevel>
std::uint64_t PageTable<G, E>::next_mapped_in(Entry* table, Range range) const {
  std::uint64_t found = range.end;
  for_each_entry<kLevel>(table, range, [&](Entry* entry, Range part) {
    const Entry value = environment_.load(entry);
    if (!is_valid(value)) return true;
    found = part.first;
    if constexpr (kLevel < kLastLevel) {
      if (is_table(value, kLevel)) {
        found = next_mapped_in<kLevel + 1>(child_of(value), part);
        if (found == part.end) {  // in use, but not from here on
          found = range.end;
          return true;
        }
      }
    }
    return false;
  });
  return found;
}

}  // namespace cadastre
