#include "hyp/config/command_line.hh"

#include <algorithm>
#include <charconv>
#include <iterator>

namespace cadastre {
namespace {

constexpr char kSpace = ' ';
constexpr char kQuote = '"';

// Where the word at the beginning of `text` ends: at the first space outside of quotes.
std::size_t word_length(std::string_view text) {
  bool is_quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == kQuote) is_quoted = !is_quoted;
    if (text[i] == kSpace && !is_quoted) return i;
  }
  return text.size();
}

std::string_view without_quotes(std::string_view text) {
  if (text.starts_with(kQuote)) text.remove_prefix(1);
  if (text.ends_with(kQuote)) text.remove_suffix(1);
  return text;
}

unsigned shift_of(char suffix) {
  switch (suffix) {
    case 'k':
    case 'K':
      return 10;
    case 'm':
    case 'M':
      return 20;
    case 'g':
    case 'G':
      return 30;
    default:
      return 0;
  }
}

// std::from_chars, but for base 16: libc++'s computes a limit with floating point, which HYP has none of.
std::optional<std::uint64_t> parse_hexadecimal(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  if (text.empty()) return std::nullopt;
  std::uint64_t value = 0;
  for (const char character : text) {
    const char lower = character >= 'A' && character <= 'F' ? static_cast<char>(character - 'A' + 'a') : character;
    const std::size_t digit = kDigits.find(lower);
    if (digit == std::string_view::npos || value >> 60 != 0) return std::nullopt;
    value = value << 4 | digit;
  }
  return value;
}

std::optional<std::uint64_t> parse_decimal(std::string_view text) {
  std::uint64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

bool is_lone(const CommandLine::Word& word) {
  return !word.has_value;
}

bool has_number(const CommandLine::Word& word) {
  const auto number = parse_size(word.value);
  return number && *number <= UINT32_MAX;
}

struct KnownWord {
  std::string_view key;
  std::string_view form;
  bool (*is_right)(const CommandLine::Word&);
};

constexpr KnownWord kKnownWords[] = {
    {.key = "batch", .form = "batch", .is_right = is_lone},
    {.key = "bench", .form = "bench", .is_right = is_lone},
    {.key = "memblock", .form = "memblock=debug", .is_right = [](const auto& word) { return word.value == "debug"; }},
    {.key = "debug",
     .form = "debug=poison,history,slab or some of them",
     .is_right = [](const auto& word) { return parse_debug(word.value).has_value(); }},
    {.key = "cma", .form = "cma=SIZE[@BASE[-LIMIT]]", .is_right = [](const auto& word) { return word.has_value; }},
    {.key = "selftest",
     .form = "selftest=mm or selftest=walk",
     .is_right = [](const auto& word) { return word.value == "mm" || word.value == "walk"; }},
    {.key = "seed", .form = "seed=N with a number of 32 bits", .is_right = has_number},
    {.key = "check", .form = "check=walk", .is_right = [](const auto& word) { return word.value == "walk"; }},
    {.key = "walk-address", .form = "walk-address=N with a number of 32 bits", .is_right = has_number},
    {.key = "own-cost",
     .form = "own-cost=FROM-UNTIL with seconds",
     .is_right = [](const auto& word) { return parse_period(word.value).has_value(); }},
    {.key = "reset-limit", .form = "reset-limit=N with a number of 32 bits", .is_right = has_number},
};

}  // namespace

void check_command_line(const CommandLine& line, Refusals& refusals) {
  for (const CommandLine::Word& word : line) {
    const auto* const known = std::ranges::find(kKnownWords, word.key, &KnownWord::key);
    if (known == std::end(kKnownWords)) {
      refusals.add("/hypervisor: bootargs: unknown word '{}': correct it or remove it", word.key);
    } else if (!known->is_right(word)) {
      refusals.add("/hypervisor: bootargs: '{}' has another value than it can: write {}", word.key, known->form);
    }
  }
}

CommandLine::Iterator::Iterator(std::string_view rest) : rest_(rest), at_(rest.data()) {
  ++*this;
}

CommandLine::Iterator& CommandLine::Iterator::operator++() {
  rest_.remove_prefix(std::min(rest_.find_first_not_of(kSpace), rest_.size()));
  at_ = rest_.data();
  std::string_view word = rest_.substr(0, word_length(rest_));
  rest_.remove_prefix(word.size());
  // "key=a b" and key="a b" are the same.
  if (word.starts_with(kQuote)) word = without_quotes(word);
  const std::size_t equals = word.find('=');
  word_.has_value = equals != std::string_view::npos;
  word_.key = word.substr(0, equals);
  word_.value = word_.has_value ? without_quotes(word.substr(equals + 1)) : std::string_view();
  return *this;
}

CommandLine::Iterator CommandLine::begin() const {
  return Iterator(text_);
}

CommandLine::Iterator CommandLine::end() const {
  return Iterator(text_.substr(text_.size()));
}

std::optional<CommandLine::Word> CommandLine::find(std::string_view key) const {
  std::optional<Word> last;
  for (const Word& word : *this) {
    if (word.key == key) last = word;
  }
  return last;
}

std::optional<std::string_view> CommandLine::value(std::string_view key) const {
  const auto word = find(key);
  return word && word->has_value ? std::optional(word->value) : std::nullopt;
}

std::optional<std::uint64_t> CommandLine::size(std::string_view key) const {
  const auto text = value(key);
  return text ? parse_size(*text) : std::nullopt;
}

std::optional<DebugChecks> parse_debug(std::string_view text) {
  DebugChecks checks;
  for (;;) {
    const std::size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    if (word == "poison") {
      checks.poison = true;
    } else if (word == "history") {
      checks.history = true;
    } else if (word == "slab") {
      checks.slab = true;
    } else {
      return std::nullopt;
    }
    if (comma == std::string_view::npos) return checks;
    text.remove_prefix(comma + 1);
  }
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  const bool is_hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  if (is_hexadecimal) text.remove_prefix(2);
  const unsigned shift = text.empty() ? 0 : shift_of(text.back());
  if (shift != 0) text.remove_suffix(1);
  const auto value = is_hexadecimal ? parse_hexadecimal(text) : parse_decimal(text);
  if (!value || *value > UINT64_MAX >> shift) return std::nullopt;
  return *value << shift;
}

std::optional<Placement> parse_placement(std::string_view text) {
  const std::size_t at = text.find('@');
  const auto size = parse_size(text.substr(0, at));
  if (!size) return std::nullopt;
  Placement placement;
  placement.size = *size;
  if (at == std::string_view::npos) return placement;
  text.remove_prefix(at + 1);
  const std::size_t dash = text.find('-');
  placement.base = parse_size(text.substr(0, dash));
  if (!placement.base) return std::nullopt;
  if (dash == std::string_view::npos) return placement;
  placement.limit = parse_size(text.substr(dash + 1));
  return placement.limit ? std::optional(placement) : std::nullopt;
}

std::optional<Period> parse_period(std::string_view text) {
  const std::size_t dash = text.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto from = parse_decimal(text.substr(0, dash));
  const auto until = parse_decimal(text.substr(dash + 1));
  if (!from || !until || *from >= *until || *until > UINT32_MAX) return std::nullopt;
  return Period{.from = *from, .until = *until};
}

}  // namespace cadastre
