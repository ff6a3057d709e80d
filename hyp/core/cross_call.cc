#include "hyp/core/cross_call.hh"

#include <atomic>

#include "arch/armv7/machine.hh"
#include "hyp/core/interrupts.hh"
#include "mm/base/per_cpu.hh"
#include "mm/base/spinlock.hh"

namespace cadastre {
namespace {

struct Call {
  void (*function)(void*);
  void* argument;
  std::atomic<unsigned> running;
};

struct Slot {
  std::atomic<Call*> call;
  std::atomic<bool> joined;
};

PerCpu<Slot> slots;
std::atomic_flag busy;  // one call at a time

}  // namespace

void join_cross_calls() {
  slots.mine(arch::machine).joined.store(true, std::memory_order_release);
}

void run_cross_calls() {
  Call* call = slots.mine(arch::machine).call.exchange(nullptr, std::memory_order_acquire);
  if (call == nullptr) return;
  call->function(call->argument);
  call->running.fetch_sub(1, std::memory_order_release);
}

void call_on_all_cpus(void (*function)(void*), void* argument) {
  // Whoever is first may be waiting for us.
  while (busy.test_and_set(std::memory_order_acquire)) {
    run_cross_calls();
    spin_wait();
  }
  Call call{.function = function, .argument = argument, .running = 0};
  for (unsigned cpu = 0; cpu < kMaxCpus; ++cpu) {
    Slot& slot = slots.of(cpu);
    if (cpu == arch::machine.cpu() || !slot.joined.load(std::memory_order_acquire)) continue;
    call.running.fetch_add(1, std::memory_order_relaxed);
    slot.call.store(&call, std::memory_order_release);
    kick_cpu(cpu);
  }
  function(argument);
  while (call.running.load(std::memory_order_acquire) != 0) spin_wait();
  busy.clear(std::memory_order_release);
}

}  // namespace cadastre
