#include "hyp/core/jobs.hh"

#include <atomic>
#include <bit>
#include <cstdint>

#include "arch/armv7/machine.hh"
#include "hyp/core/interrupts.hh"
#include "hyp/core/masked_stretch.hh"
#include "hyp/guest/timers.hh"
#include "mm/base/per_cpu.hh"

namespace cadastre {
namespace {

struct Jobs {
  JobQueue of_guests;
  JobQueue background;
};

PerCpu<Jobs> jobs;
// A bit for each CPU that sleeps, or is about to.
std::atomic<std::uint32_t> idle;

void say_name(const Job& job) {
  masked_stretch.during(job.name());
}

[[nodiscard]] std::uint32_t bit_of(unsigned cpu) {
  return 1U << cpu;
}

}  // namespace

void add_job(Job& job, unsigned cpu) {
  jobs.of(cpu).of_guests.add(job);
  // Queued first, then looked who sleeps; who goes to sleep says so first, then looks into the queues.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (std::uint32_t wake = idle.load() | bit_of(cpu); wake != 0; wake &= wake - 1) {
    kick_cpu(static_cast<unsigned>(std::countr_zero(wake)));
  }
}

bool cancel_job(Job& job, unsigned cpu) {
  return jobs.of(cpu).of_guests.cancel(job);
}

void add_background_job(Job& job) {
  jobs.mine(arch::machine).background.add(job);
}

JobQueue& guest_jobs() {
  return jobs.mine(arch::machine).of_guests;
}

bool run_job_step(const TimeAccount* account) {
  return guest_jobs().run_step_of(account, now(), say_name);
}

bool run_idle_step() {
  const unsigned mine = arch::machine.cpu();
  idle.fetch_or(bit_of(mine));
  std::atomic_thread_fence(std::memory_order_seq_cst);
  // A helper may have put one back since this CPU looked.
  if (guest_jobs().has_due(now())) return true;
  if (jobs.of(mine).background.run_step(now(), say_name)) return true;
  for (unsigned i = 1; i < kMaxCpus; ++i) {
    const unsigned other = (mine + i) % kMaxCpus;
    if (!jobs.of(other).of_guests.run_step(now(), say_name)) continue;
    // That one went to sleep, perhaps, because its job was here.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if ((idle.load() & bit_of(other)) != 0) kick_cpu(other);
    return true;
  }
  return false;
}

void stop_idling() {
  idle.fetch_and(~bit_of(arch::machine.cpu()));
}

}  // namespace cadastre
