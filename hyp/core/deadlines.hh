// When each of some numbered things is due, and which is first: a binary heap, with the place of each in it.
//
//   at 0 the first; those at 2n + 1 and 2n + 2 are no earlier than the one at n
//
// Plain logic, of one CPU; nothing is allocated.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace cadastre {

template <unsigned kNumbers>
class Deadlines {
 public:
  static_assert(kNumbers < 256);

  constexpr Deadlines() { place_.fill(kNone); }

  // `number` is due at `time`, and no more when it was.
  void set(unsigned number, std::uint64_t time) {
    if (place_[number] == kNone) put(count_++, static_cast<std::uint8_t>(number));
    time_[number] = time;
    settle(place_[number]);
  }
  // It is not; nothing if it was not.
  void clear(unsigned number) {
    const unsigned place = place_[number];
    if (place == kNone) return;
    place_[number] = kNone;
    const std::uint8_t last = heap_[--count_];
    if (last == number) return;
    put(place, last);
    settle(place);
  }

  [[nodiscard]] std::optional<std::uint64_t> first() const {
    if (count_ == 0) return std::nullopt;
    return time_[heap_[0]];
  }
  // Takes out one whose time has come.
  std::optional<unsigned> take_due(std::uint64_t now) {
    if (count_ == 0 || time_[heap_[0]] > now) return std::nullopt;
    const unsigned number = heap_[0];
    clear(number);
    return number;
  }

 private:
  static constexpr std::uint8_t kNone = 255;

  void put(unsigned place, std::uint8_t number) {
    heap_[place] = number;
    place_[number] = static_cast<std::uint8_t>(place);
  }
  [[nodiscard]] bool is_earlier(unsigned a, unsigned b) const { return time_[heap_[a]] < time_[heap_[b]]; }
  void swap(unsigned a, unsigned b) {
    const std::uint8_t number = heap_[a];
    put(a, heap_[b]);
    put(b, number);
  }
  // The only one that may stand where it should not.
  void settle(unsigned place) {
    while (place != 0 && is_earlier(place, (place - 1) / 2)) {
      swap(place, (place - 1) / 2);
      place = (place - 1) / 2;
    }
    for (unsigned child = 2 * place + 1; child < count_; child = 2 * place + 1) {
      if (child + 1 < count_ && is_earlier(child + 1, child)) ++child;
      if (!is_earlier(child, place)) return;
      swap(child, place);
      place = child;
    }
  }

  unsigned count_ = 0;
  std::array<std::uint64_t, kNumbers> time_{};
  std::array<std::uint8_t, kNumbers> heap_{};   // numbers
  std::array<std::uint8_t, kNumbers> place_{};  // in the heap
};

}  // namespace cadastre
