// Text for people, without a heap: `format_to(buffer, "{} of {:x}", 3, address)`.
//
// `{}` prints integers in decimal, addresses in hexadecimal, strings as they are; `{:x}` an integer in
// hexadecimal with `0x`; `{:8}` pads a number on the left, `{:-8}` a string on the right. What does not fit
// is cut off.
#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "mm/base/address.hh"

namespace cadastre {

// One argument, its type erased.
class FormatArgument {
 public:
  enum class Kind : std::uint8_t { kUnsigned, kSigned, kAddress, kText, kCharacter };

  template <std::integral T>
  explicit(false) constexpr FormatArgument(T value)
      : kind_(std::is_same_v<T, char> ? Kind::kCharacter
              : std::is_signed_v<T>   ? Kind::kSigned
                                      : Kind::kUnsigned),
        number_(static_cast<std::uint64_t>(value)) {}
  template <class Tag, class V>
  explicit(false) constexpr FormatArgument(Address<Tag, V> address) : kind_(Kind::kAddress), number_(address.value()) {}
  explicit(false) FormatArgument(const void* pointer)
      : kind_(Kind::kAddress), number_(reinterpret_cast<std::uintptr_t>(pointer)) {}
  explicit(false) constexpr FormatArgument(std::string_view text) : kind_(Kind::kText), text_(text) {}
  explicit(false) constexpr FormatArgument(const char* text) : kind_(Kind::kText), text_(text) {}

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] std::uint64_t number() const { return number_; }
  [[nodiscard]] std::string_view text() const { return text_; }

 private:
  Kind kind_;
  std::uint64_t number_ = 0;
  std::string_view text_;
};

// Returns the part of `buffer` that was written. No terminating zero.
std::string_view vformat_to(std::span<char> buffer, std::string_view format, std::span<const FormatArgument> arguments);

template <class... Arguments>
std::string_view format_to(std::span<char> buffer, std::string_view format, const Arguments&... arguments) {
  const FormatArgument list[] = {FormatArgument(arguments)..., FormatArgument(0)};
  return vformat_to(buffer, format, std::span(list, sizeof...(arguments)));
}

// Where a component says things to a person, a line at a time (no newline at its end).
class Log {
 public:
  Log() = default;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  virtual void write_line(std::string_view line) = 0;

  template <class... Arguments>
  void print(std::string_view format, const Arguments&... arguments) {
    char line[kLineSize];
    write_line(format_to(line, format, arguments...));
  }

 protected:
  ~Log() = default;
  static constexpr std::size_t kLineSize = 240;
};

}  // namespace cadastre
