// Long work, in bounded steps: a job does one and says whether there is more. A queue holds those of one CPU; whoever has time
// takes the oldest that is due, does a step of it, and puts it back behind the others.
//
//            add                take                    step() says "more"
//     idle -------> queued ----------------> running --------------------> queued
//       ^                                       |
//       +---------------------------------------+  step() says "done", and nobody added it meanwhile
//
// Plain logic: which CPU does what when is hyp/core/jobs.hh's.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "mm/base/spinlock.hh"

namespace cadastre {

class TimeAccount;

// What a step says: nothing, when all is done; else the count of the timer before which the next one has nothing to do.
using NextStep = std::optional<std::uint64_t>;
inline constexpr std::uint64_t kAtOnce = 0;

// Part of whatever has the work: nothing is allocated for it.
class Job {
 public:
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  // A bounded step. No lock is held; on one CPU at a time, though not always the same.
  virtual NextStep step() = 0;
  // For who reports what took so long.
  [[nodiscard]] virtual std::string_view name() const = 0;
  // On whose time it is done; null: on nobody's in particular.
  [[nodiscard]] virtual TimeAccount* account() { return nullptr; }

 protected:
  Job() = default;
  ~Job() = default;

 private:
  friend class JobQueue;
  enum class State : std::uint8_t { kIdle, kQueued, kRunning };

  // Its queue's, under that one's lock.
  Job* next_ = nullptr;
  std::uint64_t not_before_ = kAtOnce;
  State state_ = State::kIdle;
  bool again_ = false;  // added while it was running
};

class JobQueue {
 public:
  static void ignore(const Job& /*job*/) {}

  JobQueue() = default;
  JobQueue(const JobQueue&) = delete;
  JobQueue& operator=(const JobQueue&) = delete;

  // At the end; nothing if it is there already. While it is running, by its own step or on another CPU, it is queued
  // after that step, whatever the step says.
  void add(Job& job) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    if (job.state_ == Job::State::kRunning) job.again_ = true;
    if (job.state_ == Job::State::kIdle) push(job, kAtOnce);
  }

  // Takes it out. False: a step of it is running, and the caller has to try again when that is over.
  [[nodiscard]] bool cancel(Job& job) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    if (job.state_ == Job::State::kRunning) return false;
    if (job.state_ == Job::State::kQueued) remove(job);
    return true;
  }

  // A step of the oldest one that is due, told to `before` first; false: none is.
  bool run_step(std::uint64_t now, void (*before)(const Job&) = ignore) EXCLUDES(lock_) {
    return run(take(now, [](Job&) { return true; }), before);
  }
  // Of those that are done on this account's time.
  bool run_step_of(const TimeAccount* account, std::uint64_t now, void (*before)(const Job&) = ignore) EXCLUDES(lock_) {
    return run(take(now, [&](Job& job) { return job.account() == account; }), before);
  }

  // Tells `each` the account of each one that is due, and returns when the first of the others will be; nothing when there is
  // none.
  template <class F>
  [[nodiscard]] NextStep look(std::uint64_t now, F&& each) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    NextStep first;
    for (Job* job = first_; job != nullptr; job = job->next_) {
      if (job->not_before_ <= now) {
        each(job->account());
      } else if (!first || job->not_before_ < *first) {
        first = job->not_before_;
      }
    }
    return first;
  }
  [[nodiscard]] bool has_due(std::uint64_t now) EXCLUDES(lock_) {
    bool is_due = false;
    static_cast<void>(look(now, [&](TimeAccount*) { is_due = true; }));
    return is_due;
  }

 private:
  template <class Wanted>
  [[nodiscard]] Job* take(std::uint64_t now, Wanted&& wanted) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    Job* job = first_;
    while (job != nullptr && (job->not_before_ > now || !wanted(*job))) job = job->next_;
    if (job == nullptr) return nullptr;
    remove(*job);
    job->state_ = Job::State::kRunning;
    return job;
  }
  bool run(Job* job, void (*before)(const Job&)) EXCLUDES(lock_) {
    if (job == nullptr) return false;
    before(*job);
    put_back(*job, job->step());
    return true;
  }
  // Whoever wants to take the memory of a job away asks cancel() first, which waits for the lock.
  void put_back(Job& job, NextStep next) EXCLUDES(lock_) {
    const SpinlockGuard guard(lock_);
    job.state_ = Job::State::kIdle;
    if (job.again_) next = kAtOnce;
    job.again_ = false;
    if (next) push(job, *next);
  }
  void push(Job& job, std::uint64_t not_before) REQUIRES(lock_) {
    job.not_before_ = not_before;
    job.state_ = Job::State::kQueued;
    job.next_ = nullptr;
    Job** link = &first_;
    while (*link != nullptr) link = &(*link)->next_;
    *link = &job;
  }
  void remove(Job& job) REQUIRES(lock_) {
    Job** link = &first_;
    while (*link != &job) link = &(*link)->next_;
    *link = job.next_;
    job.state_ = Job::State::kIdle;
  }

  Spinlock lock_;
  Job* first_ GUARDED_BY(lock_) = nullptr;  // the oldest
};

}  // namespace cadastre
