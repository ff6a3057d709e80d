// Stage-2 faults [ARMv7 B3.13.3]: RAM that is not there yet, a device's register, or nothing at all.
#include <cstdint>
#include <optional>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/hsr.hh"
#include "hyp/core/interrupts.hh"
#include "hyp/emulate/emulate.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/guest_view.hh"
#include "hyp/guest/inject.hh"
#include "hyp/guest/instruction.hh"
#include "hyp/guest/registers.hh"
#include "hyp/guest/traps.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"
#include "mm/base/address.hh"
#include "mm/translation/guest_walk.hh"

namespace cadastre {
namespace {

using arch::Syndrome;

// The faulting IPA where HPFAR has not its page: GuestWalk answers. An ATS operation would have the CPU walk tables that another
// vCPU may have changed meanwhile, and not every CPU survives every fault that it may find there (docs/translation.md). Rare, and
// by itself, so that no other abort saves the registers that it needs.
[[gnu::noinline]] std::optional<IpaAddr> walked_address(Vcpu& vcpu, Syndrome syndrome, GuestVirtAddr address) {
  // What the TLB still has of the tables before would fault again and again [ARMv7 B3.10.1].
  arch::TLBIMVAA::write(address.value() & ~static_cast<std::uint32_t>(kPageSize - 1));
  arch::dsb();
  arch::isb();
  const GuestMmu mmu = loaded_mmu();
  const auto leaf = vcpu.vm.memory().with_view([&](const auto& view) {
    return stage1_walk(mmu, view, address, syndrome.is_write() ? Access::kWrite : Access::kRead);
  });
  if (!leaf) return std::nullopt;
  return leaf->ipa;
}

// The faulting IPA. HPFAR has its page for translation faults and for faults on the guest's own table walk [ARMv7 B3.13.7]. Nothing
// when the guest has changed its tables meanwhile: the access is tried again.
std::optional<IpaAddr> fault_address(Vcpu& vcpu, Syndrome syndrome, std::uint32_t virtual_address) {
  const GuestVirtAddr address(virtual_address);
  if (!syndrome.translation_fault() && !syndrome.stage1_walk()) [[unlikely]]
    return walked_address(vcpu, syndrome, address);
  return IpaAddr(std::uint64_t{arch::HPFAR::read() & 0xfffffff0U} << 8 | address.offset_in(kPageSize));
}

// A fault that the guest gets as an external abort.
GuestFault external_fault(Syndrome syndrome) {
  return {.stage2 = true, .on_walk = syndrome.stage1_walk(), .walk_level = 1};
}

// Gives the guest the RAM that it has touched. False: it gets an abort.
bool serve(Vcpu& vcpu, IpaAddr address, Access access) {
  GuestMemory& memory = vcpu.vm.memory();
  if (!memory.contains(address)) return false;
  const Result<FaultAnswer> answer = memory.serve_fault(address, access, [&] { handle_interrupts(&vcpu); });
  if (answer) return *answer == FaultAnswer::kRetry;
  vcpu.vm.fail("no memory behind its RAM", answer.error(), vcpu);
  return true;  // it does not come back
}

// An abort that is not stage 2's: the bus says that nothing answers there.
bool is_ours(Syndrome syndrome) {
  return syndrome.translation_fault() || syndrome.permission_fault();
}

// A register's bytes in the byte order of the guest's memory, and back.
std::uint32_t in_guest_order(const Vcpu& vcpu, Syndrome syndrome, std::uint32_t value) {
  return in_byte_order(value, syndrome.access_size(), vcpu.frame.cpsr);
}

std::uint32_t extended(std::uint32_t value, Syndrome syndrome) {
  if (!syndrome.sign_extends()) [[likely]]
    return value;
  const unsigned shift = 32 - 8 * syndrome.access_size();
  return static_cast<std::uint32_t>(static_cast<std::int32_t>(value << shift) >> shift);
}

// Returns whether a device took the access.
bool access_device(Vcpu& vcpu, Syndrome syndrome, IpaAddr address) {
  const unsigned size = syndrome.access_size();
  const MmioTarget target = vcpu.vm.devices().find(address, size);
  if (!target) return false;
  const unsigned number = syndrome.access_register();
  if (syndrome.is_write()) {
    target.device->write(vcpu.index, target.offset, size, in_guest_order(vcpu, syndrome, guest_register(vcpu, number)));
  } else {
    const std::uint32_t value = target.device->read(vcpu.index, target.offset, size);
    set_guest_register(vcpu, number, extended(in_guest_order(vcpu, syndrome, value), syndrome));
  }
  return true;
}

}  // namespace

void handle_data_abort(Vcpu& vcpu, Syndrome syndrome) {
  const std::uint32_t virtual_address = arch::HDFAR::read();
  const auto abort = [&] {
    inject_data_abort(vcpu, GuestVirtAddr(virtual_address), external_fault(syndrome),
                      syndrome.is_write() ? Access::kWrite : Access::kRead);
  };
  if (!is_ours(syndrome)) return abort();
  const std::optional<IpaAddr> address = fault_address(vcpu, syndrome, virtual_address);
  if (!address) return;
  if (!syndrome.stage1_walk() && !syndrome.cache_maintenance()) {
    if (syndrome.access_valid()) {
      if (access_device(vcpu, syndrome, *address)) return skip_instruction(vcpu, syndrome);
    } else if (vcpu.vm.devices().find(*address, 1) && emulate_device_access(vcpu)) {
      return;
    }
  }
  // Maintenance of a cache line that cannot be in any cache.
  if (syndrome.cache_maintenance() && !vcpu.vm.memory().contains(*address)) return skip_instruction(vcpu, syndrome);
  // The guest's own table walk reads, whatever the access is.
  const bool writes = syndrome.is_write() && !syndrome.stage1_walk() && !syndrome.cache_maintenance();
  if (!serve(vcpu, *address, writes ? Access::kWrite : Access::kRead)) abort();
}

void handle_prefetch_abort(Vcpu& vcpu, Syndrome syndrome) {
  const std::uint32_t virtual_address = arch::HIFAR::read();
  const auto abort = [&] { inject_prefetch_abort(vcpu, GuestVirtAddr(virtual_address), external_fault(syndrome)); };
  if (!is_ours(syndrome)) return abort();
  const std::optional<IpaAddr> address = fault_address(vcpu, syndrome, virtual_address);
  if (!address) return;
  if (!serve(vcpu, *address, syndrome.stage1_walk() ? Access::kRead : Access::kExecute)) abort();
}

}  // namespace cadastre
