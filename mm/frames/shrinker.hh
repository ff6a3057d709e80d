// Who keeps memory that could be spared registers a shrinker; the page allocator asks when a watermark is
// crossed.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

namespace cadastre {

class Shrinker {
 public:
  Shrinker() = default;
  Shrinker(const Shrinker&) = delete;
  Shrinker& operator=(const Shrinker&) = delete;

  [[nodiscard]] virtual std::string_view name() const = 0;
  // How many pages could be freed, about.
  [[nodiscard]] virtual std::uint32_t count() = 0;
  // Frees about `pages` and returns how many went. Called with no lock of the page allocator held; it may
  // free, and must not count on allocating.
  virtual std::uint32_t scan(std::uint32_t pages) = 0;

 protected:
  ~Shrinker() = default;

 private:
  friend class ShrinkerList;
  Shrinker* next_ = nullptr;
};

class ShrinkerList {
 public:
  constexpr ShrinkerList() = default;
  ShrinkerList(const ShrinkerList&) = delete;
  ShrinkerList& operator=(const ShrinkerList&) = delete;

  // `shrinker` lives until it is removed. Not from within a scan.
  void add(Shrinker& shrinker);
  void remove(Shrinker& shrinker);

  // Asks each for its share of `pages`, in proportion to what it could free; returns how many were freed. One
  // CPU at a time shrinks: 0 at once when another does, or when a scan comes back here.
  std::uint32_t shrink(std::uint32_t pages);

 private:
  [[nodiscard]] bool enter() { return !busy_.test_and_set(std::memory_order_acquire); }
  void leave() { busy_.clear(std::memory_order_release); }

  std::atomic_flag busy_;
  Shrinker* first_ = nullptr;  // whoever has set `busy_` has it
};

}  // namespace cadastre
