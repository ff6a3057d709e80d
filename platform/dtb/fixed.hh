// Containers whose room is part of the object: what the boot path uses before there is an allocator.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "mm/base/check.hh"

namespace cadastre {

// At most N elements, in place (the needed part of C++26's std::inplace_vector).
template <class T, std::size_t N>
class InplaceVector {
 public:
  [[nodiscard]] static constexpr std::size_t capacity() { return N; }
  [[nodiscard]] constexpr std::size_t size() const { return size_; }
  [[nodiscard]] constexpr bool empty() const { return size_ == 0; }

  // False, and nothing is stored, when it is full.
  [[nodiscard]] constexpr bool push_back(const T& value) {
    if (size_ == N) return false;
    items_[size_++] = value;
    return true;
  }
  // A fresh element in place, for those that are too large for a stack; null when it is full.
  [[nodiscard]] constexpr T* emplace_back() {
    if (size_ == N) return nullptr;
    return std::construct_at(&items_[size_++]);
  }
  constexpr void pop_back() {
    CHECK(size_ != 0);
    --size_;
  }
  constexpr void clear() { size_ = 0; }

  [[nodiscard]] constexpr T& operator[](std::size_t i) {
    CHECK(i < size_);
    return items_[i];
  }
  [[nodiscard]] constexpr const T& operator[](std::size_t i) const {
    CHECK(i < size_);
    return items_[i];
  }
  [[nodiscard]] constexpr T& back() { return (*this)[size_ - 1U]; }
  [[nodiscard]] constexpr T* begin() { return items_.data(); }
  [[nodiscard]] constexpr T* end() { return items_.data() + size_; }
  [[nodiscard]] constexpr const T* begin() const { return items_.data(); }
  [[nodiscard]] constexpr const T* end() const { return items_.data() + size_; }

 private:
  std::array<T, N> items_{};
  std::uint32_t size_ = 0;
};

// Text of at most N characters, with a terminating zero for C's functions.
template <std::size_t N>
class FixedString {
 public:
  constexpr FixedString() = default;
  explicit constexpr FixedString(std::string_view text) { (void)assign(text); }

  [[nodiscard]] static constexpr std::size_t capacity() { return N; }
  // False when the text was longer and only its beginning is kept.
  [[nodiscard]] constexpr bool assign(std::string_view text) {
    size_ = static_cast<std::uint16_t>(std::min(text.size(), N));
    std::copy_n(text.begin(), size_, text_.begin());
    text_[size_] = '\0';
    return size_ == text.size();
  }
  [[nodiscard]] constexpr bool append(std::string_view text) {
    const std::size_t take = std::min(text.size(), N - size_);
    std::copy_n(text.begin(), take, text_.begin() + size_);
    size_ = static_cast<std::uint16_t>(size_ + take);
    text_[size_] = '\0';
    return take == text.size();
  }

  [[nodiscard]] constexpr std::string_view view() const { return {text_.data(), size_}; }
  [[nodiscard]] constexpr const char* c_str() const { return text_.data(); }
  [[nodiscard]] constexpr bool empty() const { return size_ == 0; }

 private:
  static_assert(N <= UINT16_MAX);
  std::uint16_t size_ = 0;
  std::array<char, N + 1> text_{};
};

}  // namespace cadastre
