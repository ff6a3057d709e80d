// A guest that reads and writes the registers of its devices at random, takes and ends interrupts, and calls PSCI, while
// lines rise and fall. Nothing of it may stop the hypervisor, or leave a list register that the hardware would not accept.
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "hyp/devices/guest_console.hh"
#include "hyp/devices/psci.hh"
#include "hyp/devices/vpl011.hh"
#include "tests/model/vgic_machine.hh"

namespace cadastre {

namespace {

constexpr unsigned kUartInterrupt = 33;

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool empty() const { return size_ == 0; }
  template <class T>
  T take() {
    T value{};
    const std::size_t count = size_ < sizeof(T) ? size_ : sizeof(T);
    std::memcpy(&value, data_, count);
    data_ += count;
    size_ -= count;
    return value;
  }
  unsigned take_below(unsigned bound) { return take<std::uint8_t>() % bound; }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

class NoOutput final : public TextSink {
 public:
  void write(std::string_view text) override {
    if (text.empty()) std::abort();
  }
};

class MachineLine final : public InterruptLine {
 public:
  explicit MachineLine(VgicMachine& machine) : machine_(machine) {}
  void set(bool level) override { machine_.set_level(0, kUartInterrupt, level); }

 private:
  VgicMachine& machine_;
};

class Guest {
 public:
  Guest(unsigned vcpus, unsigned list_registers) : machine_(vcpus, list_registers), psci_(vcpus) {}

  void step(Input& input) {
    const unsigned v = input.take_below(machine_.vcpus());
    const unsigned size = 1U << input.take_below(3);
    const std::uint32_t number = input.take_below(Vgic::kInterrupts);
    switch (input.take_below(12)) {
      case 0:
        machine_.wake(v);
        (void)machine_.read(v, input.take<std::uint16_t>(), size);
        break;
      case 1:
      case 2: {
        machine_.wake(v);
        const std::uint32_t offset = input.take<std::uint16_t>() & 0xfff;
        machine_.write(v, offset, input.take<std::uint32_t>(), size);
        break;
      }
      case 3:
        machine_.set_level(v, number | Vgic::kSgis, (size & 1) != 0);
        break;
      case 4:
        machine_.pulse(v, number | Vgic::kSgis);
        break;
      case 5:
        (void)machine_.fire_timer(v);
        break;
      // Ends and deactivations of whatever number: a guest may be wrong.
      case 6:
        if (machine_.in_guest(v)) (void)machine_.acknowledge(v);
        break;
      case 7:
        if (machine_.in_guest(v)) machine_.end(v, number, size != 1);
        break;
      case 8:
        if (machine_.in_guest(v)) machine_.deactivate(v, number);
        break;
      case 9:
        machine_.in_guest(v) ? machine_.wait(v) : machine_.wake(v);
        break;
      case 10:
        uart(input, size);
        break;
      default:
        psci(input, v);
        break;
    }
    if (!machine_.failure().empty()) {
      std::cerr << machine_.failure() << '\n';
      std::abort();
    }
  }

 private:
  void uart(Input& input, unsigned size) {
    const std::uint32_t offset = input.take<std::uint16_t>() & 0xfff;
    const auto value = input.take<std::uint32_t>();
    switch (input.take_below(3)) {
      case 0:
        (void)uart_.read(offset, size);
        break;
      case 1:
        uart_.write(offset, size, value);
        break;
      default:
        if (uart_.can_receive() != uart_.receive(static_cast<char>(value))) std::abort();
        break;
    }
  }

  void psci(Input& input, unsigned v) {
    const PsciCall call{.function = 0x8400'0000U | (input.take<std::uint32_t>() & 0xc400'001f),
                        .arguments = {input.take<std::uint32_t>(), input.take<std::uint32_t>(), v}};
    const PsciDecision decision = psci_.call(call);
    switch (decision.action) {
      case PsciDecision::Action::kCpuOn:
        if (decision.target >= machine_.vcpus()) std::abort();
        psci_.started(decision.target);
        break;
      case PsciDecision::Action::kCpuOff:
        psci_.stopped(v);
        break;
      case PsciDecision::Action::kSystemReset:
        machine_.reset();
        psci_.reset();
        uart_.reset();
        console_.finish();
        break;
      default:
        break;
    }
  }

  VgicMachine machine_;
  PsciServer psci_;
  NoOutput output_;
  LineConsole console_{"fuzz", output_};
  MachineLine line_{machine_};
  Vpl011 uart_{console_, line_};
};

}  // namespace
}  // namespace cadastre

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  cadastre::Input input(data, size);
  const unsigned vcpus = 1 + input.take_below(cadastre::kMaxVcpus);
  constexpr unsigned kListRegisters[] = {1, 2, 4, 64};
  cadastre::Guest guest(vcpus, kListRegisters[input.take_below(4)]);
  while (!input.empty()) guest.step(input);
  return 0;
}
