#include "mm/base/format.hh"

#include <algorithm>
#include <array>

namespace cadastre {
namespace {

class Cursor {
 public:
  explicit Cursor(std::span<char> buffer) : buffer_(buffer) {}
  void put(char c) {
    if (used_ < buffer_.size()) buffer_[used_++] = c;
  }
  void put(std::string_view text) {
    for (const char c : text) put(c);
  }
  void pad(std::size_t have, unsigned width) {
    for (std::size_t i = have; i < width; ++i) put(' ');
  }
  [[nodiscard]] std::string_view written() const { return {buffer_.data(), used_}; }

 private:
  std::span<char> buffer_;
  std::size_t used_ = 0;
};

struct Specification {
  bool hexadecimal = false;
  bool left = false;
  unsigned width = 0;
};

// The text between `{` and `}`: [':' ['-'] [width] ['x']].
Specification parse(std::string_view text) {
  Specification specification;
  for (const char c : text) {
    if (c == 'x') specification.hexadecimal = true;
    if (c == '-') specification.left = true;
    if (c >= '0' && c <= '9') specification.width = specification.width * 10 + static_cast<unsigned>(c - '0');
  }
  return specification;
}

void put(Cursor& cursor, const FormatArgument& argument, Specification specification) {
  using Kind = FormatArgument::Kind;
  std::array<char, 24> digits{};
  std::string_view text;
  if (argument.kind() == Kind::kText) {
    text = argument.text();
  } else if (argument.kind() == Kind::kCharacter) {
    digits[0] = static_cast<char>(argument.number());
    text = {digits.data(), 1};
  } else {
    const bool hexadecimal = specification.hexadecimal || argument.kind() == Kind::kAddress;
    char* begin = digits.data();
    if (hexadecimal) {
      *begin++ = '0';
      *begin++ = 'x';
    }
    const auto result = argument.kind() == Kind::kSigned && !hexadecimal
                            ? std::to_chars(begin, digits.end(), static_cast<std::int64_t>(argument.number()))
                            : std::to_chars(begin, digits.end(), argument.number(), hexadecimal ? 16 : 10);
    text = {digits.data(), static_cast<std::size_t>(result.ptr - digits.data())};
  }
  if (!specification.left) cursor.pad(text.size(), specification.width);
  cursor.put(text);
  if (specification.left) cursor.pad(text.size(), specification.width);
}

}  // namespace

std::string_view vformat_to(std::span<char> buffer, std::string_view format,
                            std::span<const FormatArgument> arguments) {
  Cursor cursor(buffer);
  std::size_t next = 0;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '{') {
      cursor.put(format[i]);
      continue;
    }
    const std::size_t end = format.find('}', i);
    if (end == std::string_view::npos || next == arguments.size()) break;
    put(cursor, arguments[next++], parse(format.substr(i + 1, end - i - 1)));
    i = end;
  }
  return cursor.written();
}

}  // namespace cadastre
