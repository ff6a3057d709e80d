#include "hyp/guest/world_switch.hh"

#include <bit>
#include <cstdint>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/hcr.hh"
#include "arch/armv7/image.hh"
#include "hyp/core/interrupts.hh"
#include "hyp/guest/guest_map.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"
#include "mm/translation/stage2.hh"

namespace cadastre {
namespace {

// GICH, word indices [GICv2 table 5-4].
constexpr unsigned kGichHcr = 0x000 / 4;
constexpr unsigned kGichVmcr = 0x008 / 4;
constexpr unsigned kGichElrsr = 0x030 / 4;
constexpr unsigned kGichApr = 0x0f0 / 4;
constexpr unsigned kGichLr = 0x100 / 4;

template <class F>
void for_each_used(std::uint64_t used, F&& f) {
  for (; used != 0; used &= used - 1) f(static_cast<unsigned>(std::countr_zero(used)));
}

void write_list_registers(const GichState& image) {
  volatile std::uint32_t* gich = gic.gich();
  for_each_used(image.used, [&](unsigned i) { gich[kGichLr + i] = image.lr[i]; });
  gich[kGichHcr] = image.hcr;
}

// Takes them out: the hardware's are empty afterwards.
void read_list_registers(GichState& image) {
  if (image.used == 0 && (image.hcr & gich::kHcrEntryNotPresent) == 0) return;
  volatile std::uint32_t* gich = gic.gich();
  // HCR counts the ends of interrupts that were not listed; with it off nothing is delivered meanwhile.
  image.hcr = gich[kGichHcr];
  std::uint64_t empty = gich[kGichElrsr];
  if (gic.list_registers() > 32) empty |= std::uint64_t{gich[kGichElrsr + 1]} << 32;
  for_each_used(image.used, [&](unsigned i) {
    image.lr[i] = ((empty >> i) & 1) != 0 ? 0 : gich[kGichLr + i];
    gich[kGichLr + i] = 0;
  });
}

// Physical interrupts that the guest has ended otherwise than through a list register.
void deactivate_ended(Vcpu& vcpu) {
  while (const auto interrupt = vcpu.vm.vgic().next_deactivation(vcpu.index)) gic.deactivate(*interrupt);
}

}  // namespace

void init_world_switch() {
  arch::HVBAR::write(reinterpret_cast<std::uintptr_t>(hyp_vectors));
  arch::HCR::write(arch::hcr::kGuest);
  arch::HDCR::write((arch::HDCR::read() & arch::hdcr::kCountersMask) | arch::hdcr::kTrapPerformance |
                    arch::hdcr::kTrapDebug);
  arch::HCPTR::write(0x33ff);  // RES1 bits; nothing of cp10 and cp11 traps [ARMv7 B4.1.65]
  arch::HSTR::write(0);
  arch::CNTHCTL::write(arch::cnthctl::kPhysicalCountForPl1);
  // Guests see the physical count anyway. An offset makes a comparator near the count's end overflow in QEMU 7.2, whose clock
  // then stands still.
  arch::CNTVOFF::write(0);
  arch::VTCR::write(kVtcr);
  arch::isb();
}

void load_vcpu(Vcpu& vcpu) {
  vcpu.is_loaded.store(true, std::memory_order_relaxed);
  arch::VTTBR::write(vcpu.vm.memory().activate());
  arch::isb();
  if (vcpu.vm.takes_over(vcpu)) {
    arch::TLBIALL::write(0);  // this VMID's, on this CPU
    arch::dsb();
    arch::isb();
  }
  arch::HCR::write(arch::hcr::kGuest | (vcpu.abort_pending ? arch::hcr::kVirtualAbort : 0));
  vcpu.banked.restore();
  vcpu.system.restore();
  vcpu.floating_point.restore();
  volatile std::uint32_t* gich = gic.gich();
  gich[kGichVmcr] = vcpu.gich.vmcr;
  gich[kGichApr] = vcpu.gich.apr;
  write_list_registers(vcpu.gich);
  vcpu.vm.vgic().mark_dirty(vcpu.index);
  // The timer's interrupt in flight is this vCPU's: active until it deactivates it.
  const bool in_flight = vcpu.vm.vgic().hardware_active(vcpu.index, guest_map::kVirtualTimerInterrupt);
  gic.set_active(virtual_timer_interrupt(), in_flight);
  vcpu.virtual_timer.restore();
}

void refresh_vmid(Vcpu& vcpu) {
  const std::uint64_t value = vcpu.vm.memory().activate();
  if (arch::VTTBR::read() == value) return;
  arch::VTTBR::write(value);
  arch::isb();
}

void unload_vcpu(Vcpu& vcpu) {
  vcpu.virtual_timer.save_and_stop();
  sync_list_registers(vcpu);
  deactivate_ended(vcpu);
  gic.set_active(virtual_timer_interrupt(), false);
  volatile std::uint32_t* gich = gic.gich();
  vcpu.gich.vmcr = gich[kGichVmcr];
  vcpu.gich.apr = gich[kGichApr];
  gich[kGichHcr] = 0;
  vcpu.abort_pending = (arch::HCR::read() & arch::hcr::kVirtualAbort) != 0;  // until the guest takes it
  vcpu.floating_point.save();
  vcpu.system.save();
  vcpu.banked.save();
  vcpu.is_loaded.store(false, std::memory_order_relaxed);
}

void refresh_list_registers(Vcpu& vcpu) {
  Vgic& vgic = vcpu.vm.vgic();
  read_list_registers(vcpu.gich);
  vcpu.vm.kick(vgic.flush(vcpu.index, vcpu.gich));
  write_list_registers(vcpu.gich);
  deactivate_ended(vcpu);
}

void sync_list_registers(Vcpu& vcpu) {
  read_list_registers(vcpu.gich);
  vcpu.vm.kick(vcpu.vm.vgic().sync(vcpu.index, vcpu.gich));
}

}  // namespace cadastre
