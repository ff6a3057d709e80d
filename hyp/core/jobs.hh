// The jobs of the machine's CPUs (hyp/core/job_queue.hh). A guest's own work (its making, its end) is done on that guest's time,
// by its CPU in turn with whatever else wants that; CPUs that have nothing to run help, on nobody's time. What is nobody's in
// particular is done by CPUs that have nothing to run alone.
#pragma once

#include <cstdint>

#include "hyp/core/job_queue.hh"

namespace cadastre {

// Queues a guest's job for a CPU, always the same one for this job. From any CPU.
void add_job(Job& job, unsigned cpu);
// See JobQueue::cancel.
[[nodiscard]] bool cancel_job(Job& job, unsigned cpu);
// For this CPU, when it has nothing else to do; nobody helps.
void add_background_job(Job& job);
// The queue of this CPU.
[[nodiscard]] JobQueue& guest_jobs();

// For the run loop of this CPU: what there is to do of its guests' jobs. See JobQueue::look.
template <class F>
[[nodiscard]] NextStep look_for_jobs(std::uint64_t now, F&& each) {
  return guest_jobs().look(now, each);
}
// A step of a job that is done on this account's time; false: none is due.
bool run_job_step(const TimeAccount* account);
// This CPU is idle: a step of its own background jobs, or of another CPU's jobs. False: there is nothing to do, and until
// stop_idling() whoever queues a job wakes this CPU up.
[[nodiscard]] bool run_idle_step();
void stop_idling();

}  // namespace cadastre
