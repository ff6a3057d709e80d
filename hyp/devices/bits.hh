// The positions of the set bits of a word, lowest first: `for (const unsigned i : Bits(mask))`.
#pragma once

#include <bit>
#include <concepts>

namespace cadastre {

template <std::unsigned_integral Word>
class Bits {
 public:
  class Iterator {
   public:
    explicit constexpr Iterator(Word rest) : rest_(rest) {}
    constexpr unsigned operator*() const { return static_cast<unsigned>(std::countr_zero(rest_)); }
    constexpr Iterator& operator++() {
      rest_ = static_cast<Word>(rest_ & (rest_ - 1));
      return *this;
    }
    friend constexpr bool operator==(Iterator, Iterator) = default;

   private:
    Word rest_;
  };

  explicit constexpr Bits(Word word) : word_(word) {}
  [[nodiscard]] constexpr Iterator begin() const { return Iterator(word_); }
  [[nodiscard]] constexpr Iterator end() const { return Iterator(0); }

 private:
  Word word_;
};

}  // namespace cadastre
