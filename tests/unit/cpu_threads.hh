// Threads as CPUs: each has a number of its own, by which the allocators know it.
#pragma once

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "mm/base/machine.hh"
#include "mm/base/spinlock.hh"
#include "tests/model/fake_machine.hh"

namespace cadastre {

// Calls `work(cpu)` on CPUs [0, cpus) at once, and returns when all are done. What it finds wrong it counts: doctest's
// REQUIRE would end the thread.
template <class Work>
void run_on_cpus(unsigned cpus, Work work) {
  std::vector<std::thread> threads;
  threads.reserve(cpus);
  for (unsigned cpu = 0; cpu < cpus; ++cpu) {
    threads.emplace_back([&work, cpu] {
      FakeMachine::current_cpu = cpu;
      work(cpu);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// What CPUs ask each other to do, as an interrupt would: each looks for it now and then, and while it waits itself.
class CrossCalls {
 public:
  explicit CrossCalls(unsigned cpus) : cpus_(cpus) {}

  // On each CPU: `function` is what is asked of it.
  template <class Function>
  void poll(unsigned cpu, Function function) {
    if (!asked_[cpu].load(std::memory_order_acquire)) return;
    function();
    asked_[cpu].store(false, std::memory_order_release);
  }
  // Asks all others, and comes back when they have all done it, or left.
  template <class Function>
  void ask_others(unsigned cpu, Function function) {
    for (unsigned other = 0; other < cpus_; ++other) {
      if (other == cpu) continue;
      asked_[other].store(true, std::memory_order_release);
      while (asked_[other].load(std::memory_order_acquire) && !left_[other].load(std::memory_order_acquire)) {
        poll(cpu, function);
        spin_wait();
      }
    }
  }
  // The CPU has done `function` for the last time and has nothing any more.
  void leave(unsigned cpu) { left_[cpu].store(true, std::memory_order_release); }

 private:
  const unsigned cpus_;
  std::array<std::atomic<bool>, kMaxCpus> asked_{};
  std::array<std::atomic<bool>, kMaxCpus> left_{};
};

}  // namespace cadastre
