#include "hyp/core/scheduler.hh"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/machine.hh"
#include "hyp/check/walk_check.hh"
#include "hyp/core/cross_call.hh"
#include "hyp/core/interrupts.hh"
#include "hyp/core/jobs.hh"
#include "hyp/core/masked_stretch.hh"
#include "hyp/core/memory.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/guests.hh"
#include "hyp/guest/inject.hh"
#include "hyp/guest/timers.hh"
#include "hyp/guest/traps.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"
#include "hyp/guest/world_switch.hh"
#include "mm/base/per_cpu.hh"
#include "mm/base/spinlock.hh"

namespace cadastre {
namespace {

constexpr std::uint64_t kSlicesPerSecond = 100;
constexpr std::uint64_t kLeastTurnsPerSecond = 1000;

// One CPU's. All but the list is that CPU's alone.
class RunQueue {
 public:
  void add(Vcpu& vcpu) EXCLUDES(lock_);
  void remove(Vcpu& vcpu) EXCLUDES(lock_);
  void request_reschedule() { reschedule_ = true; }
  [[noreturn]] void run();

 private:
  template <class F>
  void for_each(F&& f) EXCLUDES(lock_);
  [[nodiscard]] Vcpu* stopping_vcpu();
  void stop(Vcpu& vcpu);
  [[nodiscard]] bool wakes(Vcpu& vcpu) const;
  [[nodiscard]] Vcpu* pick();
  [[nodiscard]] bool is_jobs_turn(const Vcpu* next);
  void run_jobs();
  void idle();
  void arm_timer();
  void switch_to(Vcpu* vcpu);
  void begin_turn();
  void put_away(Vcpu& vcpu);
  void run_loaded(Vcpu& vcpu);
  void balance_memory();
  [[nodiscard]] bool merge_guest_memory();

  ExitKind (*enter_)(GuestFrame*) = enter_guest;  // so that nobody pays for what is not watched
  Spinlock lock_;
  Vcpu* first_ GUARDED_BY(lock_) = nullptr;
  Vcpu* loaded_ = nullptr;
  Vcpu* last_ = nullptr;  // whose turn it was last, loaded or not
  bool reschedule_ = false;
  bool round_is_over_ = false;  // each runnable vCPU has had its turn
  bool jobs_have_turn_ = false;
  std::uint64_t least_turn_end_ = 0;  // of the loaded one's turn, in ticks of the counter
  std::uint64_t turn_end_ = 0;
  std::uint32_t pressure_seen_ = 0;  // PageAllocatorBase::pressure
};

PerCpu<RunQueue> queues;

ExitKind enter_guest_watched(GuestFrame* frame) {
  masked_stretch.end();
  const ExitKind exit = enter_guest(frame);
  masked_stretch.begin("an exit", exit == ExitKind::kTrap ? arch::HSR::read() >> 26 : 0);
  return exit;
}

void RunQueue::add(Vcpu& vcpu) {
  const SpinlockGuard guard(lock_);
  Vcpu** link = &first_;
  while (*link != nullptr) link = &(*link)->next_on_cpu;
  vcpu.next_on_cpu = nullptr;
  *link = &vcpu;
}

void RunQueue::remove(Vcpu& vcpu) {
  const SpinlockGuard guard(lock_);
  Vcpu** link = &first_;
  while (*link != &vcpu) link = &(*link)->next_on_cpu;
  *link = vcpu.next_on_cpu;
}

// Only this CPU removes, so the list may be walked while others add at its end.
template <class F>
void RunQueue::for_each(F&& f) {
  Vcpu* vcpu;
  {
    const SpinlockGuard guard(lock_);
    vcpu = first_;
  }
  while (vcpu != nullptr) {
    f(*vcpu);
    const SpinlockGuard guard(lock_);
    vcpu = vcpu->next_on_cpu;
  }
}

Vcpu* RunQueue::stopping_vcpu() {
  Vcpu* found = nullptr;
  for_each([&](Vcpu& vcpu) {
    if (vcpu.vm.stop_requested() && found == nullptr) found = &vcpu;
  });
  return found;
}

void RunQueue::stop(Vcpu& vcpu) {
  if (loaded_ == &vcpu) switch_to(nullptr);
  if (last_ == &vcpu) last_ = nullptr;
  remove(vcpu);
  Vm& vm = vcpu.vm;
  vcpu.state.store(Vcpu::State::kOff, std::memory_order_relaxed);
  if (vm.vcpu_stopped()) guest_stopped(vm);
}

// After CPU_OFF. The next CPU_ON, by whichever CPU, is not before the old state is out of this CPU's hardware.
void RunQueue::put_away(Vcpu& vcpu) {
  switch_to(nullptr);
  vcpu.vm.psci().stopped(vcpu.index);
}

// Whether a vCPU in WFI goes on [ARMv7 B1.8.14].
bool RunQueue::wakes(Vcpu& vcpu) const {
  update_physical_timer_line(vcpu);
  if (vcpu.vm.vgic().has_pending(vcpu.index)) return true;
  return loaded_ != &vcpu && virtual_timer_due(vcpu);
}

// In turn: the one after the last one, when the loaded one's slice is over. One that wakes up does not wait for that, only
// until the other has had its least turn: a guest that does nothing but wake up would leave others no time at all.
Vcpu* RunQueue::pick() {
  Vcpu* before = nullptr;
  Vcpu* after = nullptr;
  bool passed = false;
  bool other_woke = false;
  for_each([&](Vcpu& vcpu) {
    if (vcpu.state.load(std::memory_order_acquire) == Vcpu::State::kWaiting) {
      if (loaded_ == &vcpu) sync_list_registers(vcpu);
      if (wakes(vcpu)) {
        vcpu.state.store(Vcpu::State::kRunnable, std::memory_order_relaxed);
        other_woke = other_woke || &vcpu != loaded_;
      }
    }
    if (vcpu.state.load(std::memory_order_acquire) == Vcpu::State::kRunnable) {
      Vcpu*& candidate = passed ? after : before;
      if (candidate == nullptr) candidate = &vcpu;
    }
    if (&vcpu == last_) passed = true;
  });
  if (other_woke) turn_end_ = std::min(turn_end_, least_turn_end_);
  if (loaded_ != nullptr && loaded_->state.load(std::memory_order_relaxed) == Vcpu::State::kRunnable &&
      !jobs_have_turn_ && now() < turn_end_) {
    return loaded_;
  }
  round_is_over_ = after == nullptr;
  return after != nullptr ? after : before;
}

// The jobs of guests have a turn after each round of the vCPUs. It lasts as a vCPU's does, though they leave the CPU more
// often: to take interrupts, and to look at what there is to run.
bool RunQueue::is_jobs_turn(const Vcpu* next) {
  if (!has_due_job()) return jobs_have_turn_ = false;
  if (jobs_have_turn_ && (next == nullptr || now() < turn_end_)) return true;
  const bool vcpu_goes_on = next != nullptr && next == loaded_ && now() < turn_end_;
  jobs_have_turn_ = !jobs_have_turn_ && !vcpu_goes_on && (next == nullptr || round_is_over_);
  if (jobs_have_turn_) begin_turn();
  return jobs_have_turn_;
}

void RunQueue::run_jobs() {
  arm_timer();
  while (run_job_step()) {
    handle_interrupts(loaded_);
    if (reschedule_ || now() >= turn_end_) return;
  }
}

// The next time that this CPU must look again: the end of a slice, or a vCPU's timer that is not in the hardware. There is
// always a slice while a guest runs, even if nobody else wants to: the timer's interrupt is also what makes QEMU look at
// the guest's own again (Gic::reevaluate).
void RunQueue::arm_timer() {
  bool runs = false;
  std::optional<std::uint64_t> deadline;
  const auto consider = [&](std::uint64_t time) { deadline = deadline ? std::min(*deadline, time) : time; };
  for_each([&](Vcpu& vcpu) {
    const Vcpu::State state = vcpu.state.load(std::memory_order_acquire);
    if (state == Vcpu::State::kOff) return;
    runs = runs || state == Vcpu::State::kRunnable;
    // One that only waits for its turn has no use for a timer: it would end everybody's slice before it began.
    if (state == Vcpu::State::kRunnable && loaded_ != &vcpu) return;
    if (const auto event = next_timer_event(vcpu, loaded_ == &vcpu); event) consider(*event);
  });
  if (runs) consider(turn_end_);
  // Neither has a job that could go on now.
  if (const NextStep due = next_job_due(); due && *due > now()) consider(*due);
  set_hyp_timer(deadline);
}

void RunQueue::switch_to(Vcpu* vcpu) {
  if (loaded_ == vcpu) return;
  if (loaded_ != nullptr) unload_vcpu(*loaded_);
  loaded_ = vcpu;
  if (vcpu != nullptr) load_vcpu(*vcpu);
}

void RunQueue::begin_turn() {
  const std::uint64_t begin = now();
  const std::uint32_t frequency = arch::CNTFRQ::read();
  least_turn_end_ = begin + frequency / kLeastTurnsPerSecond;
  turn_end_ = begin + frequency / kSlicesPerSecond;
}

void RunQueue::run_loaded(Vcpu& vcpu) {
  const Vgic& vgic = vcpu.vm.vgic();
  do {
    if (vgic.dirty(vcpu.index)) [[unlikely]]
      refresh_list_registers(vcpu);
    switch (enter_(&vcpu.frame)) {
      [[likely]] case ExitKind::kTrap:
        handle_trap(vcpu);
        break;
      case ExitKind::kIrq:
        handle_interrupts(&vcpu);
        break;
      case ExitKind::kAsyncAbort:
        inject_asynchronous_abort();
        break;
      case ExitKind::kFiq:
        break;  // none is configured
    }
  } while (!reschedule_ && vcpu.state.load(std::memory_order_relaxed) == Vcpu::State::kRunnable);
}

// What this CPU has and can spare, when memory has run low since it last looked.
void RunQueue::balance_memory() {
  const std::uint32_t pressure = memory.pages.pressure();
  if (pressure == pressure_seen_) return;
  pressure_seen_ = pressure;
  memory.pages.balance(arch::machine.cpu());
}

// A step for the guests that this CPU runs; true: there is more to do.
bool RunQueue::merge_guest_memory() {
  bool more = false;
  for_each([&](Vcpu& vcpu) { more = vcpu.vm.memory().merge_step() || more; });
  return more;
}

// Whoever is loaded stays: most often it is the one to go on.
void RunQueue::idle() {
  arm_timer();
  balance_memory();
  gic.reevaluate();
  if (!merge_guest_memory() && !run_idle_step()) {
    if (masked_stretch.is_watched()) masked_stretch.end();
    arch::wfi();
    if (masked_stretch.is_watched()) masked_stretch.begin("idling");
  }
  stop_idling();
  handle_interrupts(loaded_);
}

void RunQueue::run() {
  if (masked_stretch.is_watched()) enter_ = enter_guest_watched;
  for (;;) {
    reschedule_ = false;  // before looking: what comes later is looked at again
    run_cross_calls();
    while (Vcpu* vcpu = stopping_vcpu()) stop(*vcpu);
    Vcpu* next = pick();
    if (is_jobs_turn(next)) {
      run_jobs();
      continue;
    }
    if (next == nullptr) {
      idle();
      continue;
    }
    const bool goes_on = next == loaded_ && now() < turn_end_;
    switch_to(next);
    last_ = next;
    if (!goes_on) begin_turn();
    refresh_vmid(*next);
    update_physical_timer_line(*next);
    if (walk_check.enabled()) [[unlikely]]
      walk_check.sample(*next);
    arm_timer();
    run_loaded(*next);
    if (next->state.load(std::memory_order_relaxed) == Vcpu::State::kOff) put_away(*next);
  }
}

}  // namespace

void add_vcpu(Vcpu& vcpu) {
  queues.of(vcpu.cpu).add(vcpu);
}

void request_reschedule() {
  queues.mine(arch::machine).request_reschedule();
}

void run_vcpus() {
  queues.mine(arch::machine).run();
}

}  // namespace cadastre
