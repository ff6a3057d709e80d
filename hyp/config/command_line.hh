// The hypervisor's command line: words separated by spaces, each `key` or `key=value`. Quotes keep spaces in
// a value.
//
//   memblock=debug cma=16M@0-1G selftest="a b" batch
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "platform/dtb/refusals.hh"

namespace cadastre {

class CommandLine {
 public:
  struct Word {
    std::string_view key;
    std::string_view value;  // without its quotes; empty for a lone key
    bool has_value = false;
  };
  class Iterator;

  CommandLine() = default;
  // `text` lives as long as this.
  explicit CommandLine(std::string_view text) : text_(text) {}

  // Of a key that is there more than once, the last: words are appended to change what stands before.
  [[nodiscard]] std::optional<Word> find(std::string_view key) const;
  [[nodiscard]] bool has(std::string_view key) const { return find(key).has_value(); }
  // Nothing without `key=`.
  [[nodiscard]] std::optional<std::string_view> value(std::string_view key) const;
  // Nothing without `key=` as well as when its value is no size; see parse_size.
  [[nodiscard]] std::optional<std::uint64_t> size(std::string_view key) const;

  [[nodiscard]] Iterator begin() const;
  [[nodiscard]] Iterator end() const;

 private:
  std::string_view text_;
};

class CommandLine::Iterator {
 public:
  explicit Iterator(std::string_view rest);
  [[nodiscard]] const Word& operator*() const { return word_; }
  [[nodiscard]] const Word* operator->() const { return &word_; }
  Iterator& operator++();
  friend bool operator==(const Iterator& a, const Iterator& b) { return a.at_ == b.at_; }

 private:
  std::string_view rest_;  // after the word
  const char* at_;         // the word's beginning, or the line's end
  Word word_;
};

// Each word must be one of those that the README lists, and have the value that it wants: a misspelt word would pass for a
// default. What `cma=` says is for who places it.
void check_command_line(const CommandLine& line, Refusals& refusals);

// What the memory manager checks on top of what it always does: `debug=WORD[,WORD...]`, the whole text, or nothing.
struct DebugChecks {
  bool poison = false;   // free pages and objects are filled, and looked at when they are allocated
  bool history = false;  // who last allocated and freed each page and object, for reports
  bool slab = false;     // red zones around objects
  friend bool operator==(const DebugChecks&, const DebugChecks&) = default;
};
[[nodiscard]] std::optional<DebugChecks> parse_debug(std::string_view text);

// Decimal, or hexadecimal after 0x; then at most one of K, M, G (binary). The whole text, or nothing.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);

// SIZE[@BASE[-LIMIT]], as in `cma=16M@0x40000000-1G`. BASE and LIMIT are physical addresses.
struct Placement {
  std::uint64_t size = 0;
  std::optional<std::uint64_t> base;
  std::optional<std::uint64_t> limit;
};
[[nodiscard]] std::optional<Placement> parse_placement(std::string_view text);

// FROM-UNTIL, seconds, as in `own-cost=60-70`: FROM is before UNTIL.
struct Period {
  std::uint64_t from = 0;
  std::uint64_t until = 0;
};
[[nodiscard]] std::optional<Period> parse_period(std::string_view text);

}  // namespace cadastre
