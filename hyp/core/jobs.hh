// The jobs of the machine's CPUs (hyp/core/job_queue.hh). A guest's own work (its making, its end) has turns on its CPU like a
// vCPU of it would; what is nobody's in particular is done by CPUs that have nothing to run.
#pragma once

#include "hyp/core/job_queue.hh"

namespace cadastre {

// Queues a guest's job for a CPU, always the same one for this job. From any CPU.
void add_job(Job& job, unsigned cpu);
// See JobQueue::cancel.
[[nodiscard]] bool cancel_job(Job& job, unsigned cpu);
// For this CPU, when it has nothing else to do; nobody helps.
void add_background_job(Job& job);

// For the run loop of this CPU.
[[nodiscard]] bool has_due_job();
[[nodiscard]] NextStep next_job_due();
// A step of a guest's job; false: none is due.
bool run_job_step();
// This CPU is idle: a step of its own background jobs, or of another CPU's jobs. False: there is nothing to do, and until
// stop_idling() whoever queues a job wakes this CPU up.
[[nodiscard]] bool run_idle_step();
void stop_idling();

}  // namespace cadastre
