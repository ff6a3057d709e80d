#include <array>
#include <atomic>

#include "hyp/core/job_queue.hh"
#include "tests/unit/cpu_threads.hh"
#include "tests/unit/random_runs.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

class CountingJob final : public Job {
 public:
  NextStep step() override {
    if (inside_.exchange(true)) twice_ = true;
    ++steps_;  // not atomic: one CPU at a time is inside
    inside_ = false;
    return steps_ % 3 == 0 ? NextStep() : NextStep(kAtOnce);
  }
  [[nodiscard]] std::string_view name() const override { return "counting"; }
  [[nodiscard]] bool twice() const { return twice_; }
  [[nodiscard]] std::uint64_t steps() const { return steps_; }

 private:
  std::atomic<bool> inside_ = false;
  std::atomic<bool> twice_ = false;
  std::uint64_t steps_ = 0;
};

TEST_CASE("jobs: whichever CPUs help, a step of a job is one CPU's, and none that was asked for is lost") {
  constexpr unsigned kCpus = 4;
  JobQueue queue;
  std::array<CountingJob, 3> jobs;
  const std::uint64_t operations = random_operations(100'000) / kCpus;
  run_on_cpus(kCpus, [&](unsigned cpu) {
    for (std::uint64_t i = 0; i < operations; ++i) {
      if (i % 4 == 0) queue.add(jobs[(i / 4 + cpu) % jobs.size()]);
      queue.run_step(0);
    }
  });
  for (CountingJob& job : jobs) {
    const std::uint64_t before = job.steps();
    queue.add(job);
    while (queue.run_step(0)) {
    }
    CHECK(job.steps() > before);
    CHECK_FALSE(job.twice());
    CHECK(queue.cancel(job));
  }
}

TEST_CASE("jobs: one that could be taken out runs no more") {
  constexpr unsigned kCpus = 3;
  JobQueue queue;
  const std::uint64_t rounds = random_operations(20'000) / 10;
  std::atomic<std::uint64_t> round = 0;
  std::atomic<bool> wrong = false;
  // The first CPU makes jobs and takes them away, the others help.
  run_on_cpus(kCpus, [&](unsigned cpu) {
    if (cpu != 0) {
      while (round < rounds) {
        if (!queue.run_step(0)) spin_wait();
      }
      return;
    }
    for (; round < rounds; ++round) {
      CountingJob job;
      queue.add(job);
      while (!queue.cancel(job)) spin_wait();
      const std::uint64_t steps = job.steps();
      if (queue.has_due(0) || job.steps() != steps || job.twice()) wrong = true;
    }
  });
  CHECK_FALSE(wrong);
}

}  // namespace
}  // namespace cadastre
