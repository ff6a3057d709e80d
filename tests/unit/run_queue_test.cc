#include "hyp/core/run_queue.hh"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hyp/core/deadlines.hh"
#include "hyp/core/job_queue.hh"
#include "tests/unit/random_runs.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr RunQueue::Lengths kLengths = {.turn = 4000, .turn_among_siblings = 500, .bank = 2000};
constexpr std::uint64_t kSlice = 2 * kLengths.turn + kLengths.bank;

// A CPU whose clock is the test's.
struct Cpu {
  Cpu() { queue.set_lengths(kLengths); }

  void wake(TimeAccount& account) {
    queue.charge(now);
    queue.wake(account);
  }
  void sleep(TimeAccount& account) {
    queue.charge(now);
    queue.sleep(account);
  }
  // Whose time is the next one; `until` at most.
  struct Run {
    TimeAccount* who;
    std::uint64_t ticks;
  };
  Run run(std::uint64_t until) {
    queue.charge(now);
    TimeAccount* const who = queue.choose();
    const std::uint64_t ticks = std::min(until - now, queue.time_left().value_or(~0ULL));
    now += ticks;
    return {who, ticks};
  }
  // How much of the time until `until` is this account's.
  std::uint64_t share_of(const TimeAccount& account, std::uint64_t until) {
    std::uint64_t ticks = 0;
    while (now < until) {
      const Run part = run(until);
      if (part.who == &account) ticks += part.ticks;
    }
    return ticks;
  }

  std::uint64_t now = 1'000'000;
  RunQueue queue;
};

TEST_CASE("accounts take turns, and time is shared by their weights") {
  Cpu cpu;
  TimeAccount light;
  TimeAccount heavy;
  light.open(0, 128);
  heavy.open(1, 512);
  CHECK_EQ(cpu.queue.choose(), nullptr);
  cpu.wake(light);
  cpu.wake(heavy);
  const std::uint64_t got = cpu.share_of(light, cpu.now + 10'000'000);
  CHECK(got > 2'000'000 - kSlice);
  CHECK(got < 2'000'000 + kSlice);
}

TEST_CASE("who sleeps now and then gets no more than who never does") {
  Cpu cpu;
  TimeAccount sleeper;
  TimeAccount spinner;
  sleeper.open(0);
  spinner.open(1);
  cpu.wake(spinner);
  // Works for a little less than a slice, sleeps for a moment, as long as it can get the CPU.
  std::uint64_t of_spinner = 0;
  const std::uint64_t begin = cpu.now;
  while (cpu.now < begin + 10'000'000) {
    cpu.wake(sleeper);
    for (std::uint64_t work = kSlice - 100; work != 0;) {
      const Cpu::Run part = cpu.run(cpu.now + work);
      part.who == & sleeper ? work -= part.ticks : of_spinner += part.ticks;
    }
    cpu.sleep(sleeper);
    of_spinner += cpu.share_of(spinner, cpu.now + 500);
  }
  CHECK(of_spinner > (cpu.now - begin) / 2 - kSlice);
}

TEST_CASE("who wakes up goes first when it has had less, and not when it has had more") {
  Cpu cpu;
  TimeAccount idle;
  TimeAccount spinner;
  idle.open(0);
  spinner.open(1);
  cpu.wake(idle);
  CHECK_EQ(cpu.queue.choose(), &idle);
  cpu.now += 1000;
  cpu.sleep(idle);
  cpu.wake(spinner);
  CHECK_EQ(cpu.queue.choose(), &spinner);
  cpu.now += 900;
  cpu.wake(idle);  // it has had 1000
  CHECK_EQ(cpu.queue.choose(), &spinner);
  cpu.sleep(idle);
  cpu.now += 200;
  cpu.wake(idle);
  CHECK_EQ(cpu.queue.choose(), &idle);
}

TEST_CASE("what is left of a turn is left after a short sleep, and a long sleep banks no more than the bank") {
  Cpu cpu;
  TimeAccount sleeper;
  TimeAccount spinner;
  sleeper.open(0);
  spinner.open(1);
  cpu.wake(spinner);
  CHECK_EQ(cpu.queue.choose(), &spinner);
  cpu.now += 10'000'000;
  cpu.wake(sleeper);
  CHECK_EQ(cpu.queue.choose(), &sleeper);
  CHECK_EQ(cpu.queue.time_left(), std::optional<std::uint64_t>(kLengths.bank + kLengths.turn + 1));
  cpu.now += 1000;
  cpu.sleep(sleeper);
  CHECK_EQ(cpu.queue.choose(), &spinner);
  cpu.now += 10;
  cpu.wake(sleeper);
  CHECK_EQ(cpu.queue.choose(), &sleeper);
  CHECK_EQ(cpu.queue.time_left(), std::optional<std::uint64_t>(kLengths.bank + kLengths.turn - 1000 + 10 + 1));
}

TEST_CASE("turns are short while a sibling waits, and only then") {
  Cpu cpu;
  TimeAccount first;
  TimeAccount second;
  TimeAccount other;
  first.open(0);
  second.open(0);
  other.open(1);
  cpu.wake(first);
  CHECK_EQ(cpu.queue.choose(), &first);
  CHECK_FALSE(cpu.queue.time_left().has_value());  // for ever
  cpu.wake(other);
  CHECK_EQ(cpu.queue.time_left(), std::optional<std::uint64_t>(kLengths.turn + 1));
  cpu.wake(second);
  CHECK_EQ(cpu.queue.time_left(), std::optional<std::uint64_t>(kLengths.turn_among_siblings + 1));
  cpu.now += kLengths.turn_among_siblings + 1;
  cpu.queue.charge(cpu.now);
  CHECK_EQ(cpu.queue.choose(), &other);
  CHECK_EQ(cpu.queue.time_left(), std::optional<std::uint64_t>(kLengths.turn + 1));
}

// Says its letter, and how it goes on.
class AccountedJob final : public Job {
 public:
  AccountedJob(std::string& steps, char letter, NextStep next, TimeAccount* account)
      : steps_(steps), letter_(letter), next_(next), account_(account) {}
  NextStep step() override {
    steps_ += letter_;
    return next_;
  }
  [[nodiscard]] std::string_view name() const override { return "test"; }
  [[nodiscard]] TimeAccount* account() override { return account_; }

 private:
  std::string& steps_;
  char letter_;
  NextStep next_;
  TimeAccount* account_;
};

TEST_CASE("jobs are found by the account on whose time they are done, which the queue tells when they are due") {
  JobQueue queue;
  TimeAccount account;
  std::string steps;
  AccountedJob nobodys(steps, 'n', {}, nullptr);
  AccountedJob somebodys(steps, 's', 100, &account);
  queue.add(nobodys);
  queue.add(somebodys);
  const auto due = [&](std::uint64_t now, NextStep& later) {
    std::vector<TimeAccount*> accounts;
    later = queue.look(now, [&](TimeAccount* who) { accounts.push_back(who); });
    return accounts;
  };
  NextStep later;
  CHECK(due(0, later) == std::vector<TimeAccount*>{nullptr, &account});
  CHECK_FALSE(later.has_value());
  CHECK(queue.run_step_of(&account, 0));
  CHECK_FALSE(queue.run_step_of(&account, 99));
  CHECK(due(99, later) == std::vector<TimeAccount*>{nullptr});
  CHECK_EQ(later, NextStep(100));
  CHECK(queue.run_step_of(nullptr, 99));
  CHECK_EQ(steps, "sn");
}

// Each account that wants the CPU all the while has its share among those that want it at some time meanwhile, less a slice
// of its own weight, from wherever one begins to count.
class SharesRun {
 public:
  explicit SharesRun(model::Decide decide) : decide_(std::move(decide)) {
    count_ = 2 + static_cast<unsigned>(decide_(kMost - 1));
    for (unsigned i = 0; i < count_; ++i) {
      std::uint32_t weight = TimeAccount::kDefaultWeight;
      if (decide_(2) == 0) weight = 32U << decide_(6);
      account_[i].open(static_cast<unsigned>(decide_(3)), weight);
      weight_[i] = weight;
    }
  }

  void step() {
    const auto which = static_cast<unsigned>(decide_(count_));
    switch (decide_(4)) {
      case 0:
        cpu_.wake(account_[which]);
        if (!wants_[which]) begin_to_count(which);
        wants_[which] = true;
        for (unsigned i = 0; i < count_; ++i) among_[i] |= 1U << which;
        break;
      case 1:
        cpu_.sleep(account_[which]);
        wants_[which] = false;
        break;
      case 2:
        if (wants_[which] && decide_(4) == 0) begin_to_count(which);
        break;
      default:
        break;
    }
    // Mostly less than a turn: what the random moments do is to come before its end.
    const std::uint64_t until = cpu_.now + decide_(decide_(8) == 0 ? 10 * kSlice : kSlice / 4);
    while (cpu_.now < until) {
      const Cpu::Run part = cpu_.run(until);
      for (unsigned i = 0; i < count_; ++i) {
        if (part.who == &account_[i]) got_[i] += part.ticks;
      }
      check(part.who);
    }
  }

 private:
  static constexpr unsigned kMost = 8;

  void begin_to_count(unsigned which) {
    got_[which] = 0;
    since_[which] = cpu_.now;
    among_[which] = 0;
    for (unsigned i = 0; i < count_; ++i) among_[which] |= wants_[i] || i == which ? 1U << i : 0;
  }
  void check(const TimeAccount* who) {
    bool anybody = false;
    for (unsigned i = 0; i < count_; ++i) {
      if (!wants_[i]) {
        model::require(who != &account_[i], "one runs that sleeps");
        continue;
      }
      anybody = true;
      std::uint64_t all = 0;
      for (unsigned k = 0; k < count_; ++k) all += (among_[i] >> k & 1) != 0 ? weight_[k] : 0;
      const std::uint64_t share = (cpu_.now - since_[i]) * weight_[i] / all;
      const std::uint64_t slice = kSlice * weight_[i] / TimeAccount::kDefaultWeight;
      constexpr std::uint64_t kRoundedOff = 4 * kMost;  // a tick a turn, of each
      model::require(got_[i] + slice + kRoundedOff >= share, "one has less than its share");
    }
    model::require(anybody == (who != nullptr), "the CPU is idle, or is not");
  }

  model::Decide decide_;
  Cpu cpu_;
  unsigned count_;
  std::array<TimeAccount, kMost> account_;
  std::array<std::uint64_t, kMost> weight_{};
  std::array<bool, kMost> wants_{};
  std::array<std::uint64_t, kMost> got_{};
  std::array<std::uint64_t, kMost> since_{};
  std::array<std::uint32_t, kMost> among_{};  // a bit for each that has wanted the CPU since
};

TEST_CASE("whatever sleeps and wakes, nobody that wants the CPU gets less than its share, less a slice") {
  run_randomly(random_operations(300'000), 1000, [](model::Decide decide) { return SharesRun(std::move(decide)); });
}

// A set of pairs does the same.
class DeadlinesRun {
 public:
  explicit DeadlinesRun(model::Decide decide) : decide_(std::move(decide)) { time_.fill(kNever); }

  void step() {
    const auto which = static_cast<unsigned>(decide_(kNumbers));
    switch (decide_(4)) {
      case 0:
      case 1:
        forget(which);
        time_[which] = now_ + decide_(100);
        model_.emplace(time_[which], which);
        deadlines_.set(which, time_[which]);
        break;
      case 2:
        forget(which);
        deadlines_.clear(which);
        break;
      default:
        now_ += decide_(50);
        take_due();
    }
    const std::uint64_t first = model_.empty() ? kNever : model_.begin()->first;
    model::require(deadlines_.first().value_or(kNever) == first, "another one is the first");
  }

 private:
  static constexpr unsigned kNumbers = 9;
  static constexpr std::uint64_t kNever = ~0ULL;

  void forget(unsigned which) {
    model_.erase({time_[which], which});
    time_[which] = kNever;
  }
  void take_due() {
    while (const auto number = deadlines_.take_due(now_)) {
      model::require(time_[*number] <= now_, "one is due that should not be");
      forget(*number);
    }
    model::require(model_.empty() || model_.begin()->first > now_, "one is due and was not taken");
  }

  model::Decide decide_;
  std::uint64_t now_ = 0;
  Deadlines<kNumbers> deadlines_;
  std::array<std::uint64_t, kNumbers> time_{};
  std::set<std::pair<std::uint64_t, unsigned>> model_;
};

TEST_CASE("deadlines come in the order of their times, whatever was set, changed and cleared before") {
  run_randomly(random_operations(300'000), 1000, [](model::Decide decide) { return DeadlinesRun(std::move(decide)); });
}

}  // namespace
}  // namespace cadastre
