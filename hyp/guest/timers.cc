#include "hyp/guest/timers.hh"

#include <algorithm>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "hyp/core/scheduler.hh"
#include "hyp/guest/guest_map.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"

namespace cadastre {
namespace {

constexpr std::uint32_t kTimerEnable = 1U << 0;
constexpr std::uint32_t kTimerMask = 1U << 1;

// The saved virtual timer's interrupt is due at this count; never, if it is under way already, whether or not the
// guest lets it in.
std::optional<std::uint64_t> virtual_deadline(const Vcpu& vcpu) {
  if ((vcpu.virtual_timer.ctl & (kTimerEnable | kTimerMask)) != kTimerEnable) return std::nullopt;
  if (vcpu.vm.vgic().hardware_active(vcpu.index, guest_map::kVirtualTimerInterrupt)) return std::nullopt;
  return vcpu.virtual_timer.cval;
}

// The guest has set the physical timer: the line follows, and this CPU's own timer when it has to.
void note_change(Vcpu& vcpu) {
  update_physical_timer_line(vcpu);
  if (vcpu.physical_timer.next_event(now())) request_reschedule();
}

std::uint32_t frequency_of_count = 0;

}  // namespace

bool init_clock(std::uint32_t frequency) {
  frequency_of_count = frequency != 0 ? frequency : arch::CNTFRQ::read();
  return frequency_of_count != 0;
}

std::uint32_t counts_per_second() {
  return frequency_of_count;
}

bool clock_runs() {
  constexpr unsigned kPatience = 1U << 16;  // reads of some nanoseconds each; the slowest count has 30 us
  const std::uint64_t first = now();
  for (unsigned i = 0; i < kPatience; ++i) {
    if (now() != first) return true;
  }
  return false;
}

std::uint64_t now() {
  arch::isb();  // the count may be read ahead of program order [ARMv7 B8.1.2]
  return arch::CNTPCT::read();
}

void access_timer_value(Vcpu& vcpu, bool read, std::uint32_t& value) {
  if (read) {
    value = vcpu.physical_timer.value(now());
    return;
  }
  vcpu.physical_timer.set_value(now(), value);
  note_change(vcpu);
}

void access_timer_control(Vcpu& vcpu, bool read, std::uint32_t& value) {
  if (read) {
    value = vcpu.physical_timer.control(now());
    return;
  }
  vcpu.physical_timer.set_control(value);
  note_change(vcpu);
}

void access_timer_compare(Vcpu& vcpu, bool read, std::uint64_t& value) {
  if (read) {
    value = vcpu.physical_timer.compare();
    return;
  }
  vcpu.physical_timer.set_compare(value);
  note_change(vcpu);
}

void update_physical_timer_line(Vcpu& vcpu) {
  const bool level = vcpu.physical_timer.level(now());
  if (level == vcpu.physical_timer_line) return;
  vcpu.physical_timer_line = level;
  // Its own interrupt, and its own CPU is here.
  static_cast<void>(vcpu.vm.vgic().set_level(vcpu.index, guest_map::kPhysicalTimerInterrupt, level));
}

bool virtual_timer_due(const Vcpu& vcpu) {
  const std::optional<std::uint64_t> deadline = virtual_deadline(vcpu);
  return deadline && *deadline <= now();
}

std::optional<std::uint64_t> next_timer_event(const Vcpu& vcpu, bool loaded) {
  std::optional<std::uint64_t> event = vcpu.physical_timer.next_event(now());
  if (loaded) return event;
  const std::optional<std::uint64_t> deadline = virtual_deadline(vcpu);
  if (!event || (deadline && *deadline < *event)) return deadline ? deadline : event;
  return event;
}

void set_hyp_timer(std::optional<std::uint64_t> deadline) {
  if (!deadline) {
    arch::CNTHP_CTL::write(0);
    return;
  }
  arch::CNTHP_CVAL::write(*deadline);
  arch::CNTHP_CTL::write(kTimerEnable);
  arch::isb();
}

}  // namespace cadastre
