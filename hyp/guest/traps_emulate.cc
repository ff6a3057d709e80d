// A trapped access to a device for which the CPU gave no syndrome: the instruction is fetched, decoded and done here
// (hyp/emulate/emulate.hh).
#include <cstdint>
#include <optional>

#include "hyp/core/interrupts.hh"
#include "hyp/emulate/emulate.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/guest_ram.hh"
#include "hyp/guest/inject.hh"
#include "hyp/guest/registers.hh"
#include "hyp/guest/traps.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"

namespace cadastre {
namespace {

// The loaded vCPU.
class LoadedCpu {
 public:
  explicit LoadedCpu(Vcpu& vcpu) : vcpu_(vcpu), mmu_(loaded_mmu()) {}

  [[nodiscard]] std::uint32_t get(unsigned number) const { return guest_register(vcpu_, number); }
  void set(unsigned number, std::uint32_t value) { set_guest_register(vcpu_, number, value); }
  [[nodiscard]] std::uint32_t pc() const { return vcpu_.frame.pc; }
  void set_pc(std::uint32_t value) { vcpu_.frame.pc = value; }
  [[nodiscard]] std::uint32_t cpsr() const { return vcpu_.frame.cpsr; }
  void set_cpsr(std::uint32_t value) { vcpu_.frame.cpsr = value; }

  [[nodiscard]] CopyResult fetch(GuestVirtAddr address, std::span<std::byte> bytes, Privilege privilege) {
    return copy_from_guest(vcpu_, address, bytes, Access::kExecute, privilege);
  }
  [[nodiscard]] WalkResult<std::uint32_t> load(GuestVirtAddr address, unsigned size, Privilege privilege) {
    std::uint32_t value = 0;
    const auto device = reach(address, size, Access::kRead, privilege, [&](auto& guest, PhysAddr physical) {
      guest.read(physical, std::as_writable_bytes(std::span(&value, 1)).first(size));
    });
    if (!device) return std::unexpected(device.error());
    return *device ? device->device->read(vcpu_.index, device->offset, size) : value;
  }
  [[nodiscard]] WalkResult<void> store(GuestVirtAddr address, unsigned size, std::uint32_t value, Privilege privilege) {
    const auto device = reach(address, size, Access::kWrite, privilege, [&](auto& guest, PhysAddr physical) {
      guest.write(physical, std::as_bytes(std::span(&value, 1)).first(size));
    });
    if (!device) return std::unexpected(device.error());
    if (*device) device->device->write(vcpu_.index, device->offset, size, value);
    return {};
  }

 private:
  // Calls ram(view of it, physical address) if there is RAM, or says which device there is: what is done to it is done without
  // the lock of the guest's memory.
  template <class Ram>
  [[nodiscard]] WalkResult<MmioTarget> reach(GuestVirtAddr address, unsigned size, Access access, Privilege privilege,
                                             Ram&& ram) {
    // Devices are accessed aligned [ARMv7 A3.2.1], and an access to RAM beside one that is not is nobody's business.
    if (!address.is_aligned(size)) return std::unexpected(GuestFault{.kind = FaultKind::kAlignment, .level = 0});
    const auto result = vcpu_.vm.memory().with_ram(
        mmu_, Populate::kYes, [&] { handle_interrupts(&vcpu_); },
        [&](auto& guest) {
          const auto translation = walk_populating(mmu_, guest, address, access, privilege);
          if (translation) ram(guest, translation->physical);
          return translation;
        });
    if (result) return MmioTarget{};
    const GuestFault& fault = result.error();
    if (!fault.stage2 || fault.on_walk || fault.kind != FaultKind::kTranslation) return std::unexpected(fault);
    const MmioTarget target = vcpu_.vm.devices().find(fault.ipa, size);
    if (!target) return std::unexpected(fault);
    return target;
  }

  Vcpu& vcpu_;
  const GuestMmu mmu_;
};

static_assert(EmulatedCpu<LoadedCpu>);

}  // namespace

// Rare, and large: not into the loop that every exit goes through.
[[gnu::cold, gnu::noinline]] bool emulate_device_access(Vcpu& vcpu) {
  LoadedCpu cpu(vcpu);
  const auto outcome = emulate_access(cpu);
  if (outcome) return *outcome != Emulation::kUnknown;
  const EmulationAbort& abort = outcome.error();
  if (abort.access == Access::kExecute) {
    inject_prefetch_abort(vcpu, abort.address, abort.fault);
  } else {
    inject_data_abort(vcpu, abort.address, abort.fault, abort.access);
  }
  return true;
}

}  // namespace cadastre
