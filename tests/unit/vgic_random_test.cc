// The vGIC and a naive GIC under the same random operations: at every step each vCPU is signalled what
// hardware of its own would signal, and every register reads the same.
#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "tests/model/gic_model.hh"
#include "tests/model/vgic_machine.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

class RandomGic {
 public:
  RandomGic(unsigned vcpus, unsigned list_registers, std::uint64_t seed)
      : machine_(vcpus, list_registers), model_(vcpus), random_(seed), roomy_(list_registers >= 16 + kNumbers.size()) {
    // Otherwise most operations would be on a GIC that forwards nothing.
    for (unsigned v = 0; v < vcpus; ++v) write(v, 0x100, 4, ~0U);
    write(0, 0x000, 4, 3);
    for (std::uint32_t word = 1; word < 4; ++word) write(0, 0x100 + 4 * word, 4, ~0U);
    for (std::uint32_t offset = 0x820; offset < 0x880; offset += 4) {
      write(0, offset, 4, static_cast<std::uint32_t>(random_()));
    }
  }

  void step() {
    switch (random(16)) {
      case 0:
      case 1:
        write_register();
        break;
      case 2:
        read_register();
        break;
      case 3:
      case 4:
      case 5:
        outside();
        break;
      case 6:
        send_sgi();
        break;
      case 7:
        wait_or_wake();
        break;
      case 8:
        if (random(500) == 0) reset();
        break;
      case 9:
      case 10:
      case 11:
      case 12:
        acknowledge();
        break;
      default:
        end();
        break;
    }
    compare();
  }

 private:
  // Few enough that they meet: SGIs, PPIs, SPIs of several words.
  static constexpr std::array<unsigned, 16> kNumbers = {0, 1, 15, 20, 27, 30, 31, 32, 33, 34, 40, 63, 64, 65, 100, 127};

  static std::uint32_t our_bits(std::uint32_t word) {
    std::uint32_t bits = word == 0 ? 0xffff : 0;
    for (const unsigned number : kNumbers) bits |= number / 32 == word ? 1U << number % 32 : 0;
    return bits;
  }

  unsigned random(unsigned bound) { return static_cast<unsigned>(random_() % bound); }
  unsigned any_vcpu() { return random(machine_.vcpus()); }
  unsigned any_number() { return kNumbers[random(kNumbers.size())]; }

  void write(unsigned v, std::uint32_t offset, unsigned size, std::uint32_t value) {
    // A trap comes from a vCPU that runs.
    machine_.wake(v);
    machine_.write(v, offset, value, size);
    model_.write(v, offset, size, value);
  }

  // An offset that shows or changes one of our interrupts mostly, and any now and then.
  std::uint32_t any_offset(unsigned& size) {
    const unsigned number = any_number();
    size = 4;
    switch (random(16)) {
      case 0:
        return 0x000;
      case 1:
        size = 1U << random(3);
        return random(0x1100);
      case 2:
      case 3:
        size = 1;
        return 0x400 + number;
      case 4:
        return 0x400 + number / 4 * 4;
      case 5:
        size = 1;
        return 0x800 + number;
      case 6:
        return 0x800 + number / 4 * 4;
      case 7:
        return 0xc00 + number / 16 * 4;
      case 8:
        size = 1;
        return 0xf10 + random(2) * 0x10 + number % 16;
      default:
        return 0x080 * (1 + random(7)) + number / 32 * 4;
    }
  }

  // What an implementation with few list registers cannot know; see the limits in vgic.hh.
  bool beyond_limits(unsigned v, std::uint32_t offset, unsigned size) {
    if (roomy_) return false;
    if (offset >= 0x300 && offset < 0x400) return true;
    for (unsigned i = 0; offset >= 0x400 && offset < 0x480 && i < size; ++i) {
      if (model_.active(v, (offset - 0x400 + i) % GicModel::kInterrupts)) return true;
    }
    return false;
  }

  void write_register() {
    const unsigned v = any_vcpu();
    unsigned size = 0;
    const std::uint32_t offset = any_offset(size);
    if (beyond_limits(v, offset, size) || (roomy_ && offset >= 0x300 && offset < 0x380 && random(4) != 0)) return;
    // The interrupts' own bits; a few at once so that clearing does not empty everything each time.
    auto value = static_cast<std::uint32_t>(random_() & random_());
    if (offset == 0x000 && random(3) != 0) value = 3;
    if (offset >= 0x200 && offset < 0x400 && size == 4) value &= our_bits(offset % 0x80 / 4);
    write(v, offset, size, value);
  }

  void read_register() {
    const unsigned v = any_vcpu();
    unsigned size = 0;
    const std::uint32_t offset = any_offset(size);
    machine_.wake(v);
    const std::uint32_t value = machine_.read(v, offset, size);
    INFO("vCPU " << v << " reads offset " << offset << ", " << size << " bytes");
    REQUIRE(value == model_.read(v, offset, size));
  }

  void outside() {
    const unsigned v = any_vcpu();
    const unsigned number = random(4) == 0 ? GicModel::kTimer : std::max(any_number(), 16U);
    if (number == GicModel::kTimer) {
      if (machine_.fire_timer(v)) model_.fire_timer(v);
    } else if (random(3) == 0) {
      machine_.pulse(v, number);
      model_.raise(v, number);
    } else {
      const bool level = random(2) == 0;
      machine_.set_level(v, number, level);
      model_.set_level(v, number, level);
    }
  }

  void send_sgi() {
    const auto value = static_cast<std::uint32_t>(random(4) << 24 | random(256) << 16 | any_number() % 16);
    write(any_vcpu(), 0xf00, 4, value);
  }

  void wait_or_wake() {
    const unsigned v = any_vcpu();
    if (machine_.in_guest(v)) {
      machine_.wait(v);
    } else {
      machine_.wake(v);
    }
  }

  void reset() {
    machine_.reset();
    model_.reset();
  }

  void acknowledge() {
    const unsigned v = any_vcpu();
    if (!machine_.in_guest(v)) return;
    if (const auto interrupt = machine_.acknowledge(v)) {
      model_.acknowledge(v, {interrupt->number, interrupt->source, interrupt->priority});
    }
  }

  void end() {
    const unsigned v = any_vcpu();
    if (machine_.in_guest(v) && model_.running(v)) machine_.end(v, model_.end(v));
  }

  // A shared interrupt with several targets is signalled to the first that lists it.
  bool taken_elsewhere(unsigned v, unsigned number) {
    for (unsigned other = 0; number >= 32 && other < machine_.vcpus(); ++other) {
      if (other != v && machine_.interface(other).lists(number, gich::kLrPending)) return true;
    }
    return false;
  }

  void compare() {
    for (unsigned v = 0; v < machine_.vcpus(); ++v) {
      INFO("vCPU " << v);
      auto waiting = model_.waiting(v);
      std::erase_if(waiting, [&](const auto& one) { return taken_elsewhere(v, one.number); });
      if (!machine_.in_guest(v)) {
        REQUIRE(machine_.vgic().has_pending(v) == !waiting.empty());
        REQUIRE(machine_.vgic().hardware_active(v, GicModel::kTimer) == model_.physical_timer_active(v));
      } else {
        REQUIRE_FALSE(machine_.vgic().dirty(v));
        compare_signalled(v, waiting);
      }
      REQUIRE(machine_.physical_timer_active(v) == model_.physical_timer_active(v));
    }
    REQUIRE(machine_.failure() == "");
  }

  void compare_signalled(unsigned v, std::vector<GicModel::Candidate>& waiting) {
    std::erase_if(waiting, [&](const auto& one) { return !model_.may_signal(v, one); });
    const auto signalled = machine_.interface(v).signalled();
    REQUIRE(signalled.has_value() == !waiting.empty());
    if (!signalled) return;
    const auto best = std::ranges::min(waiting, {}, &GicModel::Candidate::priority);
    CHECK(signalled->priority == best.priority);
    REQUIRE(std::ranges::any_of(waiting, [&](const auto& one) {
      return one.number == signalled->number && one.source == signalled->source && one.priority == signalled->priority;
    }));
  }

  VgicMachine machine_;
  GicModel model_;
  std::mt19937_64 random_;
  const bool roomy_;
};

TEST_CASE("a guest is signalled the interrupts of a GIC with endless list registers") {
  for (const unsigned vcpus : {1U, 2U, 3U, 8U}) {
    for (const unsigned list_registers : {1U, 2U, 3U, 4U, 12U, 64U}) {
      CAPTURE(vcpus);
      CAPTURE(list_registers);
      RandomGic gic(vcpus, list_registers, test_seed() + 100 * vcpus + list_registers);
      for (int i = 0; i < 3000; ++i) gic.step();
    }
  }
}

}  // namespace
}  // namespace cadastre
