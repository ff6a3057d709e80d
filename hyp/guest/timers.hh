// The timers that a vCPU sees. The virtual one is the hardware's while the vCPU is loaded; the physical one is emulated over
// HYP's own timer, which also ends time slices and sleeps [ARMv7 B8.1].
#pragma once

#include <cstdint>
#include <optional>

namespace cadastre {

struct Vcpu;

// A guest's accesses to CNTP_*: `value` is in for a write, out for a read.
void access_timer_value(Vcpu& vcpu, bool read, std::uint32_t& value);
void access_timer_control(Vcpu& vcpu, bool read, std::uint32_t& value);
void access_timer_compare(Vcpu& vcpu, bool read, std::uint64_t& value);

// Tells the vGIC the level of the physical timer's line, when it has changed. On the vCPU's CPU.
void update_physical_timer_line(Vcpu& vcpu);

// Of a vCPU that is not loaded: whether its virtual timer's interrupt is due, which the hardware will raise once it is
// loaded.
[[nodiscard]] bool virtual_timer_due(const Vcpu& vcpu);

// The physical count at which one of the vCPU's timers will want something that the hardware does not see: the virtual
// timer's only while it is not loaded.
[[nodiscard]] std::optional<std::uint64_t> next_timer_event(const Vcpu& vcpu, bool loaded);

// HYP's timer of this CPU: an interrupt at that physical count, or none.
void set_hyp_timer(std::optional<std::uint64_t> deadline);

[[nodiscard]] std::uint64_t now();

// The physical counts of a second, as firmware set CNTFRQ, unless the machine's tree says another number: `frequency`, or 0.
// False when nobody says one.
[[nodiscard]] bool init_clock(std::uint32_t frequency);
[[nodiscard]] std::uint32_t counts_per_second();
// Whether it counts: whoever described it may have left it to firmware to start it.
[[nodiscard]] bool clock_runs();

}  // namespace cadastre
