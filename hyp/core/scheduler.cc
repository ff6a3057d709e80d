#include "hyp/core/scheduler.hh"

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <utility>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/machine.hh"
#include "hyp/check/walk_check.hh"
#include "hyp/config/plan.hh"
#include "hyp/core/cross_call.hh"
#include "hyp/core/deadlines.hh"
#include "hyp/core/interrupts.hh"
#include "hyp/core/jobs.hh"
#include "hyp/core/masked_stretch.hh"
#include "hyp/core/memory.hh"
#include "hyp/core/run_queue.hh"
#include "hyp/devices/bits.hh"
#include "hyp/devices/vcpu_limit.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/guests.hh"
#include "hyp/guest/inject.hh"
#include "hyp/guest/timers.hh"
#include "hyp/guest/traps.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"
#include "hyp/guest/world_switch.hh"
#include "mm/base/check.hh"
#include "mm/base/per_cpu.hh"

namespace cadastre {
namespace {

// Of a second. A turn ends when its vCPU is that far ahead of the next one, so that two of them take turns of 8 ms.
constexpr std::uint32_t kTurnsPerSecond = 250;
constexpr std::uint32_t kTurnsAmongSiblingsPerSecond = 4000;
constexpr std::uint32_t kBanksPerSecond = 500;
// There is an end to a turn even if nobody else wants the CPU: the timer's interrupt is also what makes QEMU look at the guest's
// own again (Gic::reevaluate).
constexpr std::uint32_t kLooksPerSecond = 100;

// One CPU's. All but slots and notes is that CPU's alone.
class Scheduler {
 public:
  void add(Vcpu& vcpu);
  // True: it was not noted already.
  [[nodiscard]] bool note(unsigned slot);
  void request_reschedule() { reschedule_ = true; }
  [[noreturn]] void run();

 private:
  static constexpr unsigned kSlots = kMaxGuests * kMaxVcpus;
  static constexpr unsigned kWordBits = 32;
  static_assert(kSlots % kWordBits == 0);

  void settle(Vcpu& vcpu);
  void look_at_noted();
  void look_at_due();
  void look(Vcpu& vcpu);
  [[nodiscard]] bool wakes(Vcpu& vcpu) const;
  void wake(Vcpu& vcpu);
  void set_deadline(const Vcpu& vcpu);
  void stop(Vcpu& vcpu);
  void look_for_work();
  void run_jobs(TimeAccount& account);
  void run_vcpu(Vcpu& vcpu);
  void idle();
  void arm_timer(std::optional<std::uint64_t> deadline);
  void switch_to(Vcpu* vcpu);
  void put_away(Vcpu& vcpu);
  void run_loaded(Vcpu& vcpu);
  void balance_memory();

  ExitKind (*enter_)(GuestFrame*) = enter_guest;  // so that nobody pays for what is not watched
  // Who is noted is looked at, if there still is somebody in its slot.
  std::array<std::atomic<Vcpu*>, kSlots> slots_{};
  std::array<std::atomic<std::uint32_t>, kSlots / kWordBits> noted_{};  // a bit for each slot

  RunQueue queue_;
  Deadlines<kSlots> deadlines_;  // of the timers of vCPUs that wait for an interrupt, by slot
  TimeAccount nobodys_;          // for jobs that have no other
  NextStep next_job_;            // when another one is due
  Vcpu* loaded_ = nullptr;
  bool reschedule_ = false;
  std::uint64_t now_ = 0;            // when this pass began, in ticks of the counter
  std::uint32_t pressure_seen_ = 0;  // PageAllocatorBase::pressure
};

PerCpu<Scheduler> schedulers;

ExitKind enter_guest_watched(GuestFrame* frame) {
  masked_stretch.end();
  const ExitKind exit = enter_guest(frame);
  masked_stretch.begin("an exit", exit == ExitKind::kTrap ? arch::HSR::read() >> 26 : 0);
  return exit;
}

[[nodiscard]] bool has_runnable_vcpu(const TimeAccount& account) {
  return account.vcpu != nullptr && account.vcpu->state.load(std::memory_order_relaxed) == Vcpu::State::kRunnable;
}

void Scheduler::add(Vcpu& vcpu) {
  for (unsigned slot = 0;; ++slot) {
    CHECK(slot < kSlots);
    vcpu.slot = slot;
    Vcpu* none = nullptr;
    if (slots_[slot].compare_exchange_strong(none, &vcpu, std::memory_order_release, std::memory_order_relaxed)) return;
  }
}

bool Scheduler::note(unsigned slot) {
  const std::uint32_t bit = 1U << slot % kWordBits;
  return (noted_[slot / kWordBits].fetch_or(bit, std::memory_order_release) & bit) == 0;
}

void Scheduler::look_at_noted() {
  for (unsigned word = 0; word < kSlots / kWordBits; ++word) {
    if (noted_[word].load(std::memory_order_relaxed) == 0) continue;
    // Taken before they are looked at: what happens meanwhile is noted again.
    for (const unsigned bit : Bits(noted_[word].exchange(0, std::memory_order_acquire))) {
      Vcpu* const vcpu = slots_[word * kWordBits + bit].load(std::memory_order_acquire);
      if (vcpu != nullptr) look(*vcpu);
    }
  }
}

void Scheduler::look_at_due() {
  while (const auto slot = deadlines_.take_due(now_)) look(*slots_[*slot].load(std::memory_order_relaxed));
}

void Scheduler::look(Vcpu& vcpu) {
  if (vcpu.vm.stop_requested()) return stop(vcpu);
  switch (vcpu.state.load(std::memory_order_acquire)) {
    case Vcpu::State::kOff:
      break;
    case Vcpu::State::kRunnable:
      wake(vcpu);
      break;
    case Vcpu::State::kWaiting:
      if (wakes(vcpu)) {
        wake(vcpu);
      } else {
        set_deadline(vcpu);
      }
      break;
  }
}

// Whether a vCPU in WFI goes on [ARMv7 B1.8.14].
bool Scheduler::wakes(Vcpu& vcpu) const {
  update_physical_timer_line(vcpu);
  if (vcpu.vm.vgic().has_pending(vcpu.index)) return true;
  return loaded_ != &vcpu && virtual_timer_due(vcpu);
}

void Scheduler::wake(Vcpu& vcpu) {
  vcpu.state.store(Vcpu::State::kRunnable, std::memory_order_relaxed);
  deadlines_.clear(vcpu.slot);
  vcpu.account.vcpu = &vcpu;
  queue_.wake(vcpu.account);
}

// Of one that waits: its timers, as far as the hardware does not see them.
void Scheduler::set_deadline(const Vcpu& vcpu) {
  if (const auto event = next_timer_event(vcpu, loaded_ == &vcpu); event) {
    deadlines_.set(vcpu.slot, *event);
  } else {
    deadlines_.clear(vcpu.slot);
  }
}

void Scheduler::stop(Vcpu& vcpu) {
  if (loaded_ == &vcpu) switch_to(nullptr);
  if (vcpu.account.vcpu == &vcpu) {
    vcpu.account.vcpu = nullptr;
    queue_.sleep(vcpu.account);
  }
  deadlines_.clear(vcpu.slot);
  slots_[vcpu.slot].store(nullptr, std::memory_order_release);
  Vm& vm = vcpu.vm;
  vcpu.state.store(Vcpu::State::kOff, std::memory_order_relaxed);
  if (vm.vcpu_stopped()) guest_stopped(vm);
}

// After CPU_OFF. The next CPU_ON, by whichever CPU, is not before the old state is out of this CPU's hardware.
void Scheduler::put_away(Vcpu& vcpu) {
  switch_to(nullptr);
  vcpu.account.vcpu = nullptr;
  queue_.sleep(vcpu.account);
  vcpu.vm.psci().stopped(vcpu.index);
}

// The one that has run is off, waits, or goes on.
void Scheduler::settle(Vcpu& vcpu) {
  switch (vcpu.state.load(std::memory_order_relaxed)) {
    case Vcpu::State::kOff:
      put_away(vcpu);
      break;
    case Vcpu::State::kRunnable:
      break;
    case Vcpu::State::kWaiting:
      sync_list_registers(vcpu);
      if (wakes(vcpu)) {
        vcpu.state.store(Vcpu::State::kRunnable, std::memory_order_relaxed);
      } else {
        queue_.sleep(vcpu.account);
        set_deadline(vcpu);
      }
      break;
  }
}

void Scheduler::look_for_work() {
  look_at_noted();
  look_at_due();
  next_job_ = look_for_jobs(now_, [this](TimeAccount* of) {
    TimeAccount& account = of != nullptr ? *of : nobodys_;
    account.has_job = true;
    queue_.wake(account);
  });
}

// Its turn may be over between any two steps.
void Scheduler::run_jobs(TimeAccount& account) {
  const std::optional<std::uint64_t> left = queue_.time_left();
  const std::uint64_t end = now_ + left.value_or(counts_per_second() / kLooksPerSecond);
  arm_timer(end);
  do {
    if (!run_job_step(&account == &nobodys_ ? nullptr : &account)) {
      // All done, or on another CPU.
      account.has_job = false;
      if (!has_runnable_vcpu(account)) queue_.sleep(account);
      return;
    }
    handle_interrupts(loaded_);
  } while (!reschedule_ && now() < end);
}

// The next time that this CPU must look again: `deadline`, when a turn ends, or before.
void Scheduler::arm_timer(std::optional<std::uint64_t> deadline) {
  const auto consider = [&](std::optional<std::uint64_t> time) {
    if (time && (!deadline || *time < *deadline)) deadline = time;
  };
  consider(deadlines_.first());
  consider(next_job_);
  // The loaded one's, if it waits, is among the others.
  if (loaded_ != nullptr && loaded_->state.load(std::memory_order_relaxed) == Vcpu::State::kRunnable) {
    consider(next_timer_event(*loaded_, true));
  }
  set_hyp_timer(deadline);
}

void Scheduler::switch_to(Vcpu* vcpu) {
  if (loaded_ == vcpu) return;
  Vcpu* const before = std::exchange(loaded_, vcpu);
  if (before != nullptr) {
    unload_vcpu(*before);
    // The hardware does not see its virtual timer any more.
    if (before->state.load(std::memory_order_relaxed) == Vcpu::State::kWaiting) set_deadline(*before);
  }
  if (vcpu != nullptr) load_vcpu(*vcpu);
}

// Apart from the rest, which would take its registers.
[[gnu::noinline]] void Scheduler::run_loaded(Vcpu& vcpu) {
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
void Scheduler::balance_memory() {
  const std::uint32_t pressure = memory.pages.pressure();
  if (pressure == pressure_seen_) return;
  pressure_seen_ = pressure;
  memory.pages.balance(arch::machine.cpu());
}

// Whoever is loaded stays: most often it is the one to go on. What a dirty log or copy on write has split of its mappings is
// undone meanwhile.
void Scheduler::idle() {
  arm_timer({});
  balance_memory();
  gic.reevaluate();
  const bool merges = loaded_ != nullptr && loaded_->vm.memory().merge_step();
  if (!merges && !run_idle_step() && !reschedule_) {
    if (masked_stretch.is_watched()) masked_stretch.end();
    arch::wfi();
    if (masked_stretch.is_watched()) masked_stretch.begin("idling");
  }
  stop_idling();
  handle_interrupts(loaded_);
}

void Scheduler::run_vcpu(Vcpu& vcpu) {
  switch_to(&vcpu);
  refresh_vmid(vcpu);
  update_physical_timer_line(vcpu);
  if (walk_check.enabled()) [[unlikely]]
    walk_check.sample(vcpu);
  arm_timer(now_ + queue_.time_left().value_or(counts_per_second() / kLooksPerSecond));
  if (reschedule_) return;  // the one that left has woken up another
  run_loaded(vcpu);
}

void Scheduler::run() {
  if (masked_stretch.is_watched()) enter_ = enter_guest_watched;
  const std::uint32_t second = counts_per_second();
  queue_.set_lengths({.turn = second / kTurnsPerSecond,
                      .turn_among_siblings = second / kTurnsAmongSiblingsPerSecond,
                      .bank = second / kBanksPerSecond});
  for (Vcpu* ran = nullptr;;) {
    now_ = now();
    queue_.charge(now_);
    if (ran != nullptr) settle(*std::exchange(ran, nullptr));
    reschedule_ = false;  // before looking: what comes later is looked at again
    run_cross_calls();
    look_for_work();
    TimeAccount* const next = queue_.choose();
    if (next == nullptr) {
      idle();
    } else if (next->has_job || !has_runnable_vcpu(*next)) {
      run_jobs(*next);
    } else {
      ran = next->vcpu;
      run_vcpu(*ran);
    }
  }
}

}  // namespace

void add_vcpu(Vcpu& vcpu) {
  schedulers.of(vcpu.cpu).add(vcpu);
}

void look_at(unsigned cpu, unsigned slot) {
  if (schedulers.of(cpu).note(slot)) kick_cpu(cpu);
}

// Called from where exits are handled, whose registers it would take.
[[gnu::noinline]] void look_at(const Vcpu& vcpu) {
  look_at(vcpu.cpu, vcpu.slot);
}

void request_reschedule() {
  schedulers.mine(arch::machine).request_reschedule();
}

void run_vcpus() {
  schedulers.mine(arch::machine).run();
}

}  // namespace cadastre
