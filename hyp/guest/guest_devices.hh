// The devices of a guest, at the place where their registers meet the machine: the loaded vCPU's list registers, other
// vCPUs to kick, the host's console.
#pragma once

#include <cstdint>

#include "hyp/devices/interrupt_line.hh"
#include "hyp/devices/mmio.hh"
#include "hyp/devices/text_sink.hh"

namespace cadastre {

class Vm;

class VgicDevice final : public MmioDevice {
 public:
  explicit VgicDevice(Vm& vm) : vm_(vm) {}
  [[nodiscard]] std::uint32_t read(unsigned vcpu, std::uint32_t offset, unsigned size) override;
  void write(unsigned vcpu, std::uint32_t offset, unsigned size, std::uint32_t value) override;

 private:
  Vm& vm_;
};

class UartDevice final : public MmioDevice {
 public:
  explicit UartDevice(Vm& vm) : vm_(vm) {}
  [[nodiscard]] std::uint32_t read(unsigned vcpu, std::uint32_t offset, unsigned size) override;
  void write(unsigned vcpu, std::uint32_t offset, unsigned size, std::uint32_t value) override;

 private:
  Vm& vm_;
};

// UARTINTR of a guest, wired to its distributor.
class UartLine final : public InterruptLine {
 public:
  explicit UartLine(Vm& vm) : vm_(vm) {}
  void set(bool level) override;

 private:
  Vm& vm_;
};

}  // namespace cadastre
