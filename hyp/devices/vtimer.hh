// A generic timer by its registers, over a counter that the caller reads [ARMv7 B8.1.5, B8.2]: what a guest's
// accesses to CNTP_CTL, CNTP_CVAL and CNTP_TVAL see, and when its interrupt is due. Counts are ticks of the
// counter.
#pragma once

#include <cstdint>
#include <optional>

namespace cadastre {

class EmulatedTimer {
 public:
  static constexpr std::uint32_t kEnable = 1U << 0;
  static constexpr std::uint32_t kMask = 1U << 1;
  static constexpr std::uint32_t kStatus = 1U << 2;  // ISTATUS, read only

  [[nodiscard]] constexpr std::uint32_t control(std::uint64_t now) const {
    return control_ | (condition(now) ? kStatus : 0);
  }
  constexpr void set_control(std::uint32_t value) { control_ = value & (kEnable | kMask); }

  [[nodiscard]] constexpr std::uint64_t compare() const { return compare_; }
  constexpr void set_compare(std::uint64_t value) { compare_ = value; }

  // TimerValue: a signed 32-bit view of how far the compare value is away [ARMv7 B8.1.5].
  [[nodiscard]] constexpr std::uint32_t value(std::uint64_t now) const {
    return static_cast<std::uint32_t>(compare_ - now);
  }
  constexpr void set_value(std::uint64_t now, std::uint32_t value) {
    compare_ = now + static_cast<std::uint64_t>(std::int64_t{static_cast<std::int32_t>(value)});
  }

  // The interrupt line.
  [[nodiscard]] constexpr bool level(std::uint64_t now) const { return (control_ & kMask) == 0 && condition(now); }
  // The count at which the line will rise; nothing when it is high, or will not rise by itself.
  [[nodiscard]] constexpr std::optional<std::uint64_t> next_event(std::uint64_t now) const {
    if (control_ != kEnable || condition(now)) return std::nullopt;
    return compare_;
  }

 private:
  // The comparison is unsigned: a compare value far ahead is in the future, whatever its top bit. ISTATUS is
  // unknown while the timer is off, and zero here.
  [[nodiscard]] constexpr bool condition(std::uint64_t now) const {
    return (control_ & kEnable) != 0 && now >= compare_;
  }

  std::uint64_t compare_ = 0;
  std::uint32_t control_ = 0;
};

}  // namespace cadastre
