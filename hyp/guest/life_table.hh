// What becomes of a guest, as a table: its states, which of them may follow which, and how long one that resets again and
// again has to wait. Plain logic; hyp/guest/life.cc does what it says.
//
//              made, loaded         first entry        vCPUs have left       nothing is left of it
//   created ------------> loading -----------> running --------> stopping ------+----> off
//      ^                     |                                   ^    |         +----> failed
//      |                     +---- no memory for it -------------+    |
//      +----------------------------- reset: once more ---------------+
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cadastre {

enum class GuestState : std::uint8_t {
  kCreated,   // it is in the configuration and has nothing yet
  kLoading,   // it is given what it has before it runs: vCPUs, tables, RAM with its images
  kRunning,   // its vCPUs are their CPUs'
  kStopping,  // no vCPU runs; what it has is taken back
  kOff,       // it has nothing: it powered off
  kFailed,    // it has nothing: it could not go on
};
inline constexpr unsigned kGuestStates = 6;

struct GuestStateFacts {
  std::string_view name;
  std::uint8_t next;  // a bit for each state that may follow
};

namespace life {

[[nodiscard]] constexpr std::uint8_t bit(GuestState state) {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(state));
}

inline constexpr std::array<GuestStateFacts, kGuestStates> kTable = {{
    {"created", bit(GuestState::kLoading)},
    {"loading", bit(GuestState::kRunning) | bit(GuestState::kStopping)},
    {"running", bit(GuestState::kStopping)},
    {"stopping", bit(GuestState::kCreated) | bit(GuestState::kOff) | bit(GuestState::kFailed)},
    {"off", 0},
    {"failed", 0},
}};

}  // namespace life

[[nodiscard]] constexpr std::string_view to_string(GuestState state) {
  return life::kTable[static_cast<std::size_t>(state)].name;
}
[[nodiscard]] constexpr bool may_follow(GuestState before, GuestState after) {
  return (life::kTable[static_cast<std::size_t>(before)].next & life::bit(after)) != 0;
}

// A guest that resets at once whenever it is started keeps the machine busy with nothing but that. So it waits before it is
// started again: not at all the first time, then 1 ms, then twice as long each time, at most a second. One that has run for
// a second is as good as new: whoever reboots by hand never waits.
class ResetPause {
 public:
  // It was started at `started` and reset at `ended`, ticks of a timer of this frequency: when to start it again.
  [[nodiscard]] std::uint64_t restart_at(std::uint64_t started, std::uint64_t ended, std::uint32_t frequency) {
    if (ended - started >= frequency) pause_ = 0;
    const std::uint64_t at = ended + pause_;
    pause_ = std::clamp<std::uint64_t>(2 * pause_, frequency / kFirstPausesPerSecond, frequency);
    return at;
  }

 private:
  static constexpr std::uint32_t kFirstPausesPerSecond = 1000;

  std::uint64_t pause_ = 0;  // the next one, ticks
};

}  // namespace cadastre
