#include "hyp/guest/guest_devices.hh"

#include "hyp/core/console_input.hh"
#include "hyp/guest/guest_map.hh"
#include "hyp/guest/vm.hh"
#include "hyp/guest/world_switch.hh"

namespace cadastre {

std::uint32_t VgicDevice::read(unsigned vcpu, std::uint32_t offset, unsigned size) {
  if (Vgic::needs_sync(offset)) sync_list_registers(vm_.vcpu(vcpu));
  return vm_.vgic().read(vcpu, offset, size);
}

void VgicDevice::write(unsigned vcpu, std::uint32_t offset, unsigned size, std::uint32_t value) {
  if (Vgic::needs_sync(offset)) sync_list_registers(vm_.vcpu(vcpu));
  vm_.kick(vm_.vgic().write(vcpu, offset, size, value));
}

std::uint32_t UartDevice::read(unsigned /*vcpu*/, std::uint32_t offset, unsigned size) {
  const std::uint32_t value = vm_.uart().read(offset, size);
  if (offset == 0) console_input.deliver();  // UARTDR: one character less in its FIFO
  return value;
}

void UartDevice::write(unsigned /*vcpu*/, std::uint32_t offset, unsigned size, std::uint32_t value) {
  vm_.uart().write(offset, size, value);
}

void UartLine::set(bool level) {
  vm_.kick(vm_.vgic().set_level(0, guest_map::kUartInterrupt, level));
}

}  // namespace cadastre
