#include "hyp/core/interrupts.hh"

#include <array>
#include <atomic>

#include "arch/armv7/cpu.hh"
#include "hyp/core/console.hh"
#include "hyp/core/console_input.hh"
#include "hyp/core/masked_stretch.hh"
#include "hyp/core/scheduler.hh"
#include "hyp/guest/guest_map.hh"
#include "hyp/guest/timers.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"
#include "hyp/guest/world_switch.hh"
#include "mm/base/machine.hh"

namespace cadastre {

Gic gic;

namespace {

constexpr unsigned kKick = 0;

struct {
  unsigned virtual_timer = 0;
  unsigned hyp_timer = 0;
  unsigned maintenance = 0;
  unsigned uart = 0;
} ids;

// The GIC's number of each CPU, a bit mask, which software cannot know before the CPU asks for it.
std::array<std::atomic<std::uint8_t>, kMaxCpus> interfaces;

constexpr bool kLevel = true;

// Returns whether the interrupt stays active for a guest to deactivate.
bool handle(unsigned interrupt, Vcpu* loaded) {
  if (interrupt == ids.virtual_timer) {
    if (loaded == nullptr) return false;  // cannot be: it is stopped while nobody is loaded
    static_cast<void>(
        loaded->vm.vgic().raise_hardware(loaded->index, guest_map::kVirtualTimerInterrupt, ids.virtual_timer));
    // While it runs, its list registers are brought up to date before it goes on, and that is all.
    if (loaded->state.load(std::memory_order_relaxed) == Vcpu::State::kWaiting) look_at(*loaded);
    return true;
  }
  if (interrupt == ids.maintenance) {
    // At once: the line stays high until its reason is gone from the list registers [GICv2 5.3.4].
    if (loaded != nullptr) refresh_list_registers(*loaded);
  } else if (interrupt == ids.hyp_timer) {
    set_hyp_timer({});
    request_reschedule();
  } else if (interrupt == ids.uart) {
    console_input.receive();
  } else if (interrupt == kKick) {
    request_reschedule();
  }
  return false;
}

}  // namespace

void init_interrupts(const HostDescription& host) {
  ids = {.virtual_timer = host.timer.virtual_timer,
         .hyp_timer = host.timer.hypervisor,
         .maintenance = host.gic.maintenance_interrupt,
         .uart = host.uart.interrupt};
  gic.init_distributor();
}

void init_cpu_interrupts() {
  gic.init_cpu();
  gic.enable(ids.virtual_timer, kLevel);
  gic.enable(ids.hyp_timer, kLevel);
  gic.enable(ids.maintenance, kLevel);
  const unsigned cpu = arch::this_cpu().index;
  interfaces[cpu].store(gic.interface_mask(), std::memory_order_release);
  if (cpu == 0 && ids.uart != 0) gic.enable(ids.uart, kLevel);
}

unsigned virtual_timer_interrupt() {
  return ids.virtual_timer;
}

void handle_interrupts(Vcpu* loaded) {
  if (masked_stretch.is_watched()) [[unlikely]] {
    masked_stretch.end();
    masked_stretch.begin("an interrupt");
  }
  for (;;) {
    const std::uint32_t acknowledged = gic.acknowledge();
    const unsigned interrupt = acknowledged & 0x3ff;
    if (interrupt >= Gic::kFirstSpecial) return;
    const bool guests = handle(interrupt, loaded);
    gic.drop_priority(acknowledged);
    if (!guests) gic.deactivate(acknowledged);
  }
}

void kick_cpu(unsigned cpu) {
  if (cpu == arch::this_cpu().index) {
    request_reschedule();
    return;
  }
  gic.send_sgi(kKick, interfaces[cpu].load(std::memory_order_acquire));
}

}  // namespace cadastre
