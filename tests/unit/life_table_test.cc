#include "hyp/guest/life_table.hh"

#include <algorithm>
#include <vector>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

using enum GuestState;

constexpr std::array<GuestState, kGuestStates> kAll = {kCreated, kLoading, kRunning, kStopping, kOff, kFailed};

TEST_CASE("a guest's life goes from created over loading and running to its end, or begins again") {
  CHECK(may_follow(kCreated, kLoading));
  CHECK(may_follow(kLoading, kRunning));
  CHECK(may_follow(kRunning, kStopping));
  CHECK(may_follow(kStopping, kOff));
  CHECK(may_follow(kStopping, kFailed));
  CHECK(may_follow(kStopping, kCreated));
}

TEST_CASE("what a guest has is always taken back: only one that is stopping can come to an end") {
  for (const GuestState before : kAll) {
    for (const GuestState end : {kOff, kFailed}) CHECK_EQ(may_follow(before, end), before == kStopping);
  }
  CHECK(may_follow(kLoading, kStopping));  // there was no memory for it
}

TEST_CASE("an end is one: nothing follows, and no state follows itself") {
  for (const GuestState state : kAll) {
    CHECK_FALSE(may_follow(kOff, state));
    CHECK_FALSE(may_follow(kFailed, state));
    CHECK_FALSE(may_follow(state, state));
  }
}

TEST_CASE("every state can be reached, and has a name of its own") {
  std::vector<GuestState> reached = {kCreated};
  for (std::size_t i = 0; i < reached.size(); ++i) {
    for (const GuestState next : kAll) {
      if (may_follow(reached[i], next) && std::ranges::find(reached, next) == reached.end()) reached.push_back(next);
    }
  }
  CHECK_EQ(reached.size(), kGuestStates);
  for (const GuestState a : kAll) {
    CHECK_FALSE(to_string(a).empty());
    for (const GuestState b : kAll) CHECK_EQ(a == b, to_string(a) == to_string(b));
  }
}

constexpr std::uint32_t kSecond = 62'500'000;
constexpr std::uint64_t kMillisecond = kSecond / 1000;

TEST_CASE("the first reset does not wait, later ones twice as long each time, up to a second") {
  ResetPause pause;
  std::uint64_t now = 5 * kMillisecond;
  std::uint64_t started = 0;
  std::uint64_t expected = 0;
  for (unsigned i = 0; i < 20; ++i) {
    const std::uint64_t again = pause.restart_at(started, now, kSecond);
    CHECK_EQ(again - now, expected);
    expected = std::clamp<std::uint64_t>(2 * expected, kMillisecond, kSecond);
    started = again;
    now = started + 100;
  }
  CHECK_EQ(expected, kSecond);
}

TEST_CASE("a guest that has run for a second does not wait when it resets") {
  ResetPause pause;
  std::uint64_t now = 0;
  for (unsigned i = 0; i < 5; ++i) now = pause.restart_at(now, now + 1, kSecond);
  const std::uint64_t ended = now + kSecond;
  CHECK_EQ(pause.restart_at(now, ended, kSecond), ended);
  CHECK_EQ(pause.restart_at(ended, ended + 1, kSecond), ended + 1 + kMillisecond);
}

}  // namespace
}  // namespace cadastre
