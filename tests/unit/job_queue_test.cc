#include "hyp/core/job_queue.hh"

#include <algorithm>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "tests/unit/random_runs.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

// What each step does is the test's.
class TestJob final : public Job {
 public:
  explicit TestJob(std::function<NextStep()> what) : what_(std::move(what)) {}
  NextStep step() override { return what_(); }
  [[nodiscard]] std::string_view name() const override { return "test"; }

 private:
  std::function<NextStep()> what_;
};

// When the first of them is due.
NextStep next_due(JobQueue& queue) {
  bool is_due = false;
  const NextStep later = queue.look(kAtOnce, [&](TimeAccount*) { is_due = true; });
  return is_due ? NextStep(kAtOnce) : later;
}

TEST_CASE("jobs of a queue take turns, a step each, in the order in which they came") {
  JobQueue queue;
  std::string steps;
  unsigned left_of_a = 3;
  unsigned left_of_b = 2;
  TestJob a([&]() -> NextStep {
    steps += 'a';
    return --left_of_a != 0 ? NextStep(kAtOnce) : std::nullopt;
  });
  TestJob b([&]() -> NextStep {
    steps += 'b';
    return --left_of_b != 0 ? NextStep(kAtOnce) : std::nullopt;
  });
  CHECK_FALSE(queue.run_step(0));
  queue.add(a);
  queue.add(b);
  queue.add(a);  // it is there already
  while (queue.run_step(0)) {
  }
  CHECK_EQ(steps, "ababa");
  CHECK_FALSE(queue.has_due(~0ULL));
}

TEST_CASE("a job that waits for a time lets others go first, and says when it is due") {
  JobQueue queue;
  unsigned steps = 0;
  TestJob sleeper([&]() -> NextStep { return ++steps == 1 ? NextStep(100) : std::nullopt; });
  unsigned others = 0;
  TestJob other([&]() -> NextStep { return ++others < 5 ? NextStep(kAtOnce) : std::nullopt; });
  CHECK_FALSE(next_due(queue).has_value());
  queue.add(sleeper);
  CHECK(queue.run_step(10));
  CHECK_EQ(next_due(queue), NextStep(100));
  CHECK_FALSE(queue.has_due(99));
  CHECK_FALSE(queue.run_step(99));
  queue.add(other);
  CHECK_EQ(next_due(queue), NextStep(kAtOnce));
  while (queue.run_step(99)) {
  }
  CHECK_EQ(others, 5);
  CHECK_EQ(steps, 1);
  CHECK(queue.run_step(100));
  CHECK_EQ(steps, 2);
  CHECK_FALSE(next_due(queue).has_value());
}

TEST_CASE("a job that is added while a step of it runs has one step more, even if that one was its last") {
  JobQueue queue;
  unsigned steps = 0;
  TestJob* self = nullptr;
  TestJob job([&]() -> NextStep {
    if (++steps == 1) queue.add(*self);
    return {};
  });
  self = &job;
  queue.add(job);
  CHECK(queue.run_step(0));
  CHECK(queue.run_step(0));
  CHECK_FALSE(queue.run_step(0));
  CHECK_EQ(steps, 2);
}

TEST_CASE("a job can be taken out unless a step of it is running") {
  JobQueue queue;
  bool cancelled = true;
  TestJob* self = nullptr;
  TestJob job([&]() -> NextStep {
    cancelled = queue.cancel(*self);
    return kAtOnce;
  });
  self = &job;
  CHECK(queue.cancel(job));  // it is not there
  queue.add(job);
  CHECK(queue.run_step(0));
  CHECK_FALSE(cancelled);
  CHECK(queue.cancel(job));
  CHECK_FALSE(queue.run_step(0));
  queue.add(job);
  CHECK(queue.has_due(0));
}

// A list of numbers does the same.
class QueueRun {
 public:
  explicit QueueRun(model::Decide decide) : decide_(std::move(decide)) {
    for (unsigned i = 0; i < kJobs; ++i) {
      jobs_.emplace_back([this, i]() -> NextStep {
        ran_ = i;
        next_ = decide_(3) == 0 ? NextStep() : NextStep(now_ + decide_(4));
        return next_;
      });
    }
  }

  void step() {
    now_ += decide_(2);
    const auto which = static_cast<unsigned>(decide_(kJobs));
    switch (decide_(4)) {
      case 0:
        queue_.add(jobs_[which]);
        if (!find(which)) model_.push_back({which, kAtOnce});
        break;
      case 1:
        if (!queue_.cancel(jobs_[which])) throw model::Violation{"a job that does not run cannot be taken out"};
        std::erase_if(model_, [&](const Entry& entry) { return entry.job == which; });
        break;
      default:
        run();
    }
    NextStep first;
    for (const Entry& entry : model_) first = std::min(first.value_or(~0ULL), entry.not_before);
    if (next_due(queue_) != first) throw model::Violation{"the first one is due at another time"};
  }

 private:
  static constexpr unsigned kJobs = 6;
  static constexpr unsigned kNone = kJobs;
  struct Entry {
    unsigned job;
    std::uint64_t not_before;
  };

  [[nodiscard]] bool find(unsigned job) const { return std::ranges::find(model_, job, &Entry::job) != model_.end(); }
  void run() {
    const auto due = std::ranges::find_if(model_, [&](const Entry& entry) { return entry.not_before <= now_; });
    const unsigned expected = due == model_.end() ? kNone : due->job;
    ran_ = kNone;
    if (queue_.run_step(now_) != (expected != kNone) || ran_ != expected) throw model::Violation{"another job ran"};
    if (expected == kNone) return;
    model_.erase(due);
    if (next_) model_.push_back({expected, *next_});
  }

  model::Decide decide_;
  JobQueue queue_;
  std::deque<TestJob> jobs_;
  std::deque<Entry> model_;
  std::uint64_t now_ = 0;
  unsigned ran_ = kNone;
  NextStep next_;
};

TEST_CASE("whatever is added, taken out and run, a queue does what a list would") {
  run_randomly(random_operations(100'000), 500, [](model::Decide decide) { return QueueRun(std::move(decide)); });
}

}  // namespace
}  // namespace cadastre
