// The vGIC by example: what its registers say, and what a guest's vCPUs are signalled.
#include <array>
#include <atomic>
#include <thread>

#include "tests/model/vgic_machine.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr unsigned kTimer = VgicMachine::kVirtualTimer;
constexpr unsigned kPpi = 30;
constexpr unsigned kSpi = 40;
constexpr unsigned kNothing = 1023;

constexpr std::uint32_t kCtlr = 0x000;
constexpr std::uint32_t kTyper = 0x004;
constexpr std::uint32_t kGroup = 0x080;
constexpr std::uint32_t kSetEnable = 0x100;
constexpr std::uint32_t kClearEnable = 0x180;
constexpr std::uint32_t kSetPending = 0x200;
constexpr std::uint32_t kClearPending = 0x280;
constexpr std::uint32_t kSetActive = 0x300;
constexpr std::uint32_t kClearActive = 0x380;
constexpr std::uint32_t kPriority = 0x400;
constexpr std::uint32_t kTargets = 0x800;
constexpr std::uint32_t kConfiguration = 0xc00;
constexpr std::uint32_t kSgir = 0xf00;
constexpr std::uint32_t kSgirOthers = 1U << 24;
constexpr std::uint32_t kSgirSelf = 2U << 24;

// A machine whose distributor is on, with every interrupt enabled, edge-triggered SPIs, and SPIs sent to vCPU 0.
class GicMachine : public VgicMachine {
 public:
  explicit GicMachine(unsigned vcpus = 2, unsigned list_registers = 4) : VgicMachine(vcpus, list_registers) {
    for (unsigned v = 0; v < vcpus; ++v) write(v, kSetEnable, ~0U);
    for (std::uint32_t word = 1; word < 4; ++word) write(0, kSetEnable + 4 * word, ~0U);
    for (std::uint32_t n = 32; n < 128; ++n) write(0, kTargets + n, 1, 1);
    for (std::uint32_t n = 32; n < 128; n += 16) write(0, kConfiguration + n / 4, 0xaaaa'aaaa);
    write(0, kCtlr, 1);
  }
  ~GicMachine() { CHECK(failure() == ""); }
  GicMachine(const GicMachine&) = delete;
  GicMachine& operator=(const GicMachine&) = delete;

  // A one-bit register of `number`.
  bool bit(unsigned v, std::uint32_t family, unsigned number) {
    return (read(v, family + number / 32 * 4) >> number % 32 & 1) != 0;
  }
  void set_bit(unsigned v, std::uint32_t family, unsigned number) {
    write(v, family + number / 32 * 4, 1U << number % 32);
  }
  void set_priority(unsigned number, std::uint32_t priority) { write(0, kPriority + number, priority, 1); }
  void set_targets(unsigned number, std::uint32_t targets) { write(0, kTargets + number, targets, 1); }
  void make_level_sensitive(unsigned number) {
    const std::uint32_t offset = kConfiguration + number / 16 * 4;
    write(0, offset, read(0, offset) & ~(2U << number % 16 * 2));
  }

  unsigned signalled(unsigned v) {
    const auto interrupt = interface(v).signalled();
    return interrupt ? interrupt->number : kNothing;
  }
  unsigned take(unsigned v) {
    const auto interrupt = acknowledge(v);
    return interrupt ? interrupt->number : kNothing;
  }
};

TEST_CASE("GICD_TYPER tells how many interrupts and vCPUs there are") {
  GicMachine one(1);
  CHECK(one.read(0, kTyper) == 0x03);
  GicMachine eight(8);
  CHECK(eight.read(7, kTyper) == 0xe3);
}

TEST_CASE("GICD identifies itself as a GIC-400") {
  GicMachine machine;
  CHECK(machine.read(0, 0x008) == 0x0200'143b);
  CHECK(machine.read(0, 0xfe0) == 0x90);
  CHECK((machine.read(0, 0xfe8) & 0xf0) == 0x20);
  CHECK(machine.read(0, 0xffc) == 0xb1);
}

TEST_CASE("what is reserved, misaligned or of another size reads as zero and changes nothing") {
  GicMachine machine;
  for (const std::uint32_t offset : {0x00cU, 0x03cU, 0x090U, 0x480U, 0x880U, 0xc20U, 0xd00U, 0xe00U, 0xf04U, 0xf30U,
                                     0x1000U, 0x8000U, 0xffff'fffcU}) {
    machine.write(0, offset, ~0U);
    CHECK(machine.read(0, offset) == 0);
  }
  CHECK(machine.read(0, kSetEnable, 1) == 0);
  CHECK(machine.read(0, kTyper, 2) == 0);
  machine.write(0, kClearEnable, 0xff, 1);
  machine.write(0, kClearEnable + 2, ~0U);
  machine.write(0, kCtlr, 0, 2);
  CHECK(machine.read(0, kSetEnable) == ~0U);
  CHECK(machine.read(0, kCtlr) == 1);
}

TEST_CASE("a priority has five bits, and bytes of its own") {
  GicMachine machine;
  machine.write(0, kPriority + kSpi, 0x1234'56ff);
  machine.write(0, kPriority + kSpi + 2, 0xa7, 1);
  CHECK(machine.read(0, kPriority + kSpi) == 0x10a0'50f8);
  CHECK(machine.read(0, kPriority + kSpi + 3, 1) == 0x10);
  CHECK(machine.read(0, kPriority + kSpi, 2) == 0x50f8);
}

TEST_CASE("SGIs are always enabled and edge-triggered, PPIs level-sensitive, and SPIs as they are configured") {
  GicMachine machine;
  machine.write(0, kClearEnable, ~0U);
  CHECK(machine.read(0, kSetEnable) == 0xffff);
  machine.write(0, kConfiguration, 0);
  machine.write(0, kConfiguration + 4, ~0U);
  machine.write(0, kConfiguration + 8, 0x8000'0003);
  CHECK(machine.read(0, kConfiguration) == 0xaaaa'aaaa);
  CHECK(machine.read(0, kConfiguration + 4) == 0);
  CHECK(machine.read(0, kConfiguration + 8) == 0x8000'0002);
}

TEST_CASE("targets: of private interrupts the reader, of shared ones the vCPUs that exist, of a lone vCPU none") {
  GicMachine three(3);
  CHECK(three.read(2, kTargets + 4) == 0x0404'0404);
  three.set_targets(kSpi, 0xff);
  CHECK(three.read(1, kTargets + kSpi, 1) == 0x07);
  GicMachine one(1);
  one.set_targets(kSpi, 0xff);
  CHECK(one.read(0, kTargets) == 0);
  CHECK(one.read(0, kTargets + kSpi) == 0);
  one.pulse(0, kSpi);
  CHECK(one.signalled(0) == kSpi);
}

TEST_CASE("private interrupts are each vCPU's own") {
  GicMachine machine;
  machine.set_bit(0, kClearEnable, kPpi);
  CHECK_FALSE(machine.bit(0, kSetEnable, kPpi));
  CHECK(machine.bit(1, kSetEnable, kPpi));
  machine.set_level(1, kPpi, true);
  CHECK(machine.signalled(0) == kNothing);
  CHECK(machine.signalled(1) == kPpi);
  CHECK_FALSE(machine.bit(0, kSetPending, kPpi));
  CHECK(machine.bit(1, kSetPending, kPpi));
}

TEST_CASE("a pending interrupt is signalled when it, its group and the distributor are enabled") {
  GicMachine machine;
  machine.write(0, kCtlr, 0);
  machine.set_bit(0, kClearEnable, kSpi);
  machine.pulse(0, kSpi);
  CHECK(machine.signalled(0) == kNothing);
  machine.write(0, kCtlr, 1);
  CHECK(machine.signalled(0) == kNothing);
  machine.set_bit(0, kSetEnable, kSpi);
  CHECK(machine.signalled(0) == kSpi);
  machine.set_bit(0, kGroup, kSpi);
  CHECK(machine.signalled(0) == kNothing);
  machine.write(0, kCtlr, 2);
  CHECK(machine.signalled(0) == kSpi);
  CHECK((machine.image(0).lr[0] & gich::kLrGroup1) != 0);
  machine.write(0, kCtlr, 0);
  CHECK(machine.signalled(0) == kNothing);
}

TEST_CASE("an interrupt that is disabled, cleared or unasserted before it is taken is not signalled any more") {
  GicMachine machine;
  machine.pulse(0, kSpi);
  machine.set_bit(0, kClearEnable, kSpi);
  CHECK(machine.signalled(0) == kNothing);
  CHECK(machine.bit(0, kSetPending, kSpi));
  machine.set_bit(0, kSetEnable, kSpi);
  CHECK(machine.signalled(0) == kSpi);
  machine.set_bit(1, kClearPending, kSpi);
  CHECK(machine.signalled(0) == kNothing);

  machine.make_level_sensitive(kSpi);
  machine.set_level(0, kSpi, true);
  machine.set_bit(0, kClearPending, kSpi);
  CHECK(machine.signalled(0) == kSpi);
  machine.set_level(0, kSpi, false);
  CHECK(machine.signalled(0) == kNothing);
}

TEST_CASE("a level-sensitive interrupt is pending by its line or by the guest's own hand until it is taken") {
  GicMachine machine;
  machine.set_bit(0, kSetPending, kPpi);
  CHECK(machine.take(0) == kPpi);
  CHECK_FALSE(machine.bit(0, kSetPending, kPpi));
  machine.end(0, kPpi);
  CHECK(machine.signalled(0) == kNothing);

  machine.set_bit(0, kSetPending, kPpi);
  machine.set_level(0, kPpi, true);
  machine.set_level(0, kPpi, false);
  CHECK(machine.signalled(0) == kPpi);
  machine.set_bit(0, kClearPending, kPpi);
  CHECK(machine.signalled(0) == kNothing);
}

TEST_CASE("a line that stays high interrupts again after each end, and one that has fallen costs no exit") {
  GicMachine machine;
  machine.set_level(0, kPpi, true);
  for (int i = 0; i < 3; ++i) {
    CHECK(machine.take(0) == kPpi);
    CHECK(machine.signalled(0) == kNothing);
    machine.end(0, kPpi);
  }
  CHECK(machine.take(0) == kPpi);
  machine.set_level(0, kPpi, false);
  const unsigned flushes = machine.flushes();
  machine.end(0, kPpi);
  CHECK(machine.flushes() == flushes);
  CHECK(machine.signalled(0) == kNothing);
}

TEST_CASE("an edge while its interrupt is active is signalled after the end, without an exit") {
  GicMachine machine;
  machine.pulse(0, kSpi);
  CHECK(machine.take(0) == kSpi);
  machine.pulse(0, kSpi);
  machine.pulse(0, kSpi);
  CHECK(machine.signalled(0) == kNothing);
  CHECK(machine.bit(0, kSetActive, kSpi));
  CHECK(machine.bit(0, kSetPending, kSpi));
  const unsigned flushes = machine.flushes();
  machine.end(0, kSpi);
  CHECK(machine.take(0) == kSpi);
  machine.end(0, kSpi);
  CHECK(machine.flushes() == flushes);
  CHECK(machine.signalled(0) == kNothing);
}

TEST_CASE("an interrupt that is active and pending leaves with its target") {
  GicMachine machine;
  machine.pulse(0, kSpi);
  CHECK(machine.take(0) == kSpi);
  machine.pulse(0, kSpi);
  machine.set_targets(kSpi, 2);
  CHECK(machine.signalled(1) == kNothing);
  machine.end(0, kSpi);
  CHECK(machine.signalled(0) == kNothing);
  CHECK(machine.signalled(1) == kSpi);
}

TEST_CASE("an SGI comes once from each of its senders, and says which") {
  GicMachine machine(4);
  for (const unsigned sender : {3U, 0U, 3U, 1U}) machine.write(sender, kSgir, 1U << 16 | 5);
  CHECK(machine.read(1, 0xf24) == 0);
  CHECK(machine.read(0, 0xf24) == 0x0b00);
  CHECK(machine.read(1, 0xf14) == 0);
  machine.write(2, kSgir, kSgirOthers | 5);
  CHECK(machine.read(1, 0xf25, 1) == 0x04);
  CHECK(machine.read(0, 0xf25, 1) == 0x0f);
  machine.write(0, 0xf15, 0x01, 1);
  for (const unsigned sender : {1U, 2U, 3U}) {
    const auto interrupt = machine.acknowledge(0).value_or(VgicMachine::Interrupt{.number = kNothing});
    CHECK(interrupt.number == 5);
    CHECK(interrupt.source == sender);
    // Sent again meanwhile: comes again, after the others.
    if (sender == 1) machine.write(0, kSgir, kSgirSelf | 5);
    machine.end(0, 5);
    if (sender == 1) machine.write(0, 0xf15, 0x01, 1);
  }
  CHECK(machine.signalled(0) == kNothing);
}

TEST_CASE("an SGI that is active keeps its sender when its list register is filled again") {
  GicMachine machine(4);
  machine.write(3, kSgir, 1U << 16 | 5);
  CHECK(machine.take(0) == 5);
  machine.pulse(0, kSpi);
  CHECK(machine.interface(0).lists(5, gich::kLrActive));
  CHECK((machine.image(0).lr[0] >> gich::kLrCpuIdShift & 7) == 3);
  // From the same sender it may be pending as well; from another it has to wait.
  machine.write(3, kSgir, 1U << 16 | 5);
  CHECK(machine.interface(0).lists(5, gich::kLrPending));
  machine.end(0, 5);
  CHECK(machine.interface(0).lists(5, gich::kLrPending));
  machine.end(0, machine.take(0));
  machine.end(0, machine.take(0));
  CHECK(machine.signalled(0) == kNothing);
}

TEST_CASE("the end of the virtual timer's interrupt deactivates the physical one") {
  GicMachine machine;
  for (int i = 0; i < 3; ++i) {
    REQUIRE(machine.fire_timer(1));
    const unsigned flushes = machine.flushes();
    CHECK_FALSE(machine.fire_timer(1));
    CHECK(machine.take(1) == kTimer);
    CHECK(machine.physical_timer_active(1));
    machine.end(1, kTimer);
    CHECK_FALSE(machine.physical_timer_active(1));
    CHECK(machine.flushes() == flushes);
  }
  CHECK_FALSE(machine.physical_timer_active(0));
}

TEST_CASE("a timer interrupt that the guest gets rid of otherwise is deactivated by the hypervisor") {
  GicMachine machine;
  machine.fire_timer(0);
  machine.set_bit(0, kClearPending, kTimer);
  CHECK(machine.signalled(0) == kNothing);
  CHECK_FALSE(machine.physical_timer_active(0));

  machine.fire_timer(0);
  CHECK(machine.take(0) == kTimer);
  machine.set_bit(0, kClearPending, kTimer);
  CHECK(machine.physical_timer_active(0));
  machine.set_bit(0, kClearActive, kTimer);
  CHECK_FALSE(machine.physical_timer_active(0));

  machine.fire_timer(0);
  machine.reset();
  CHECK_FALSE(machine.physical_timer_active(0));
}

TEST_CASE("the guest's own timer interrupt on top of the physical one: each is delivered, one is deactivated") {
  GicMachine machine;
  machine.fire_timer(0);
  CHECK(machine.take(0) == kTimer);
  machine.set_bit(0, kSetPending, kTimer);
  machine.end(0, kTimer);
  CHECK(machine.take(0) == kTimer);
  CHECK(machine.physical_timer_active(0));
  machine.end(0, kTimer);
  CHECK_FALSE(machine.physical_timer_active(0));
  CHECK(machine.signalled(0) == kNothing);
  // The guest's own alone has nothing to deactivate.
  machine.set_bit(0, kSetPending, kTimer);
  CHECK((machine.image(0).lr[0] & gich::kLrHardware) == 0);
}

TEST_CASE("a vCPU that stops running carries its timer interrupt with it") {
  GicMachine machine;
  machine.fire_timer(0);
  CHECK(machine.take(0) == kTimer);
  machine.wait(0);
  CHECK(machine.vgic().hardware_active(0, kTimer));
  machine.wake(0);
  machine.end(0, kTimer);
  machine.wait(0);
  CHECK_FALSE(machine.vgic().hardware_active(0, kTimer));
}

TEST_CASE("more interrupts than list registers come in order of priority, and of number among equals") {
  GicMachine machine(1, 2);
  const unsigned order[] = {70, 40, 90, 33, 34, 100};
  std::uint32_t priority = 0x40;
  for (const unsigned number : order) machine.set_priority(number, number == 34 ? priority : priority += 0x10);
  for (unsigned i = 6; i-- > 0;) machine.pulse(0, order[i]);
  for (const unsigned number : order) {
    CHECK(machine.take(0) == number);
    machine.end(0, number);
  }
  CHECK(machine.signalled(0) == kNothing);
}

TEST_CASE("more nested interrupts than list registers end in the opposite order") {
  for (const unsigned list_registers : {1U, 2U, 4U}) {
    GicMachine machine(1, list_registers);
    for (unsigned i = 0; i < 8; ++i) {
      machine.set_priority(kSpi + i, 0x80 - 8 * i);
      machine.pulse(0, kSpi + i);
      CHECK(machine.take(0) == kSpi + i);
    }
    machine.pulse(0, kSpi);  // pending again, least urgent of all
    for (unsigned i = 8; i-- > 0;) {
      CHECK(machine.signalled(0) == kNothing);
      CHECK(machine.bit(0, kSetActive, kSpi + i));
      machine.end(0, kSpi + i);
      CHECK_FALSE(machine.bit(0, kSetActive, kSpi + i));
    }
    CHECK(machine.take(0) == kSpi);
  }
}

TEST_CASE("an interrupt that is active and pending hides no more urgent one that has to wait for a list register") {
  GicMachine machine(1, 2);
  machine.set_priority(kSpi, 0x80);
  machine.set_priority(kSpi + 1, 0x40);
  machine.set_priority(kSpi + 2, 0x20);
  machine.pulse(0, kSpi);
  CHECK(machine.take(0) == kSpi);
  for (unsigned i = 0; i < 3; ++i) machine.pulse(0, kSpi + i);
  for (const unsigned i : {2U, 1U}) {
    CHECK(machine.take(0) == kSpi + i);
    machine.end(0, kSpi + i);
  }
  machine.end(0, kSpi);
  CHECK(machine.take(0) == kSpi);
}

TEST_CASE("a change of priority reorders what is pending") {
  GicMachine machine(1, 1);
  machine.set_priority(kSpi, 0x40);
  machine.set_priority(kSpi + 1, 0x50);
  machine.pulse(0, kSpi);
  machine.pulse(0, kSpi + 1);
  CHECK(machine.signalled(0) == kSpi);
  machine.set_priority(kSpi, 0x60);
  CHECK(machine.signalled(0) == kSpi + 1);
}

TEST_CASE("a shared interrupt goes to the first of its targets, and to another when that one waits or is no target") {
  GicMachine machine(3);
  machine.set_targets(kSpi, 6);
  machine.pulse(0, kSpi);
  CHECK(machine.signalled(0) == kNothing);
  CHECK(machine.signalled(1) == kSpi);
  CHECK(machine.signalled(2) == kNothing);
  machine.wait(1);
  CHECK(machine.signalled(2) == kSpi);
  machine.set_targets(kSpi, 1);
  CHECK(machine.signalled(2) == kNothing);
  CHECK(machine.take(0) == kSpi);
  // Active, it stays where it is.
  machine.set_targets(kSpi, 4);
  machine.pulse(0, kSpi);
  CHECK(machine.signalled(2) == kNothing);
  machine.end(0, kSpi);
  CHECK(machine.signalled(2) == kSpi);
}

TEST_CASE("vCPUs with more shared interrupts than list registers do not offer them to each other for ever") {
  GicMachine machine(2, 1);
  for (unsigned number = kSpi; number < kSpi + 6; ++number) {
    machine.set_targets(number, 3);
    machine.pulse(0, number);
  }
  machine.set_priority(kSpi + 5, 0x08);
  unsigned taken = 0;
  for (unsigned i = 0; i < 6; ++i) {
    const unsigned number = machine.take(i % 2);
    REQUIRE(number != kNothing);
    CHECK((taken >> (number - kSpi) & 1) == 0);
    taken |= 1U << (number - kSpi);
    machine.end(i % 2, number);
  }
  CHECK(machine.signalled(0) == kNothing);
  CHECK(machine.signalled(1) == kNothing);
}

TEST_CASE("an interrupt that the guest makes active is its to deactivate, and then pending for its targets") {
  GicMachine machine(3);
  machine.set_targets(kSpi, 4);
  machine.set_bit(1, kSetActive, kSpi);
  machine.pulse(0, kSpi);
  CHECK(machine.bit(0, kSetActive, kSpi));
  CHECK(machine.signalled(2) == kNothing);
  machine.deactivate(1, kSpi);
  CHECK(machine.signalled(2) == kSpi);
  machine.set_bit(0, kClearPending, kSpi);

  machine.set_bit(1, kSetActive, kSpi);
  machine.pulse(0, kSpi);
  machine.set_bit(0, kClearActive, kSpi);
  CHECK_FALSE(machine.bit(0, kSetActive, kSpi));
  CHECK(machine.signalled(2) == kSpi);
}

TEST_CASE("a guest may drop an interrupt's priority first and deactivate it later") {
  GicMachine machine(1);
  machine.make_level_sensitive(kSpi);
  machine.set_level(0, kSpi, true);
  machine.pulse(0, kSpi + 1);
  CHECK(machine.take(0) == kSpi);
  machine.end(0, kSpi, false);
  CHECK(machine.take(0) == kSpi + 1);
  machine.end(0, kSpi + 1, false);
  CHECK(machine.signalled(0) == kNothing);
  machine.deactivate(0, kSpi);
  CHECK(machine.signalled(0) == kSpi);
  machine.deactivate(0, kSpi + 1);
  CHECK_FALSE(machine.bit(0, kSetActive, kSpi + 1));
}

TEST_CASE("a wait ends with an interrupt that would be delivered, and no other") {
  GicMachine machine;
  machine.wait(0);
  CHECK_FALSE(machine.vgic().has_pending(0));
  machine.pulse(0, kSpi);
  CHECK(machine.vgic().has_pending(0));
  CHECK_FALSE(machine.vgic().has_pending(1));
  machine.write(1, kClearEnable + 4, ~0U);
  CHECK_FALSE(machine.vgic().has_pending(0));
  machine.write(1, kSetEnable + 4, ~0U);
  machine.wake(0);
  CHECK(machine.take(0) == kSpi);
  machine.wait(0);
  CHECK_FALSE(machine.vgic().has_pending(0));
}

TEST_CASE("a vCPU for which nothing changes enters the guest without touching its list registers") {
  GicMachine machine;
  machine.pulse(0, kSpi);
  const unsigned flushes = machine.flushes();
  (void)machine.read(0, kTyper);
  (void)machine.read(0, kSetEnable + 4);
  machine.set_bit(0, kClearEnable, kSpi + 1);
  machine.set_bit(0, kSetEnable, kSpi + 1);
  machine.set_priority(kSpi + 1, 0x20);
  machine.set_targets(kSpi + 1, 3);
  machine.set_level(1, kPpi, false);
  machine.write(0, kCtlr, 1);
  CHECK(machine.flushes() == flushes);
}

TEST_CASE("reset forgets everything but the levels of the lines") {
  GicMachine machine;
  machine.set_level(0, kPpi, true);
  machine.pulse(0, kSpi);
  CHECK(machine.take(0) == kPpi);
  machine.reset();
  CHECK(machine.signalled(0) == kNothing);
  CHECK(machine.read(0, kCtlr) == 0);
  CHECK(machine.read(0, kSetEnable) == 0xffff);
  CHECK(machine.read(0, kSetEnable + 4) == 0);
  CHECK(machine.read(0, kTargets + kSpi) == 0);
  CHECK(machine.read(0, kSetActive) == 0);
  CHECK(machine.read(0, kSetPending) == 1U << kPpi);
  machine.write(0, kCtlr, 1);
  machine.set_bit(0, kSetEnable, kPpi);
  CHECK(machine.signalled(0) == kPpi);
}

// Without the harness, which brings in whoever has listed what another one looks at.
TEST_CASE("what another vCPU has listed is shown as pending, and is taken back from it when it is cleared") {
  Vgic vgic(2, 4);
  GichState image;
  constexpr unsigned kPhysical = 77;
  (void)vgic.write(0, kSetEnable + 4, 4, ~0U);
  (void)vgic.write(0, kTargets + kSpi, 1, 1);
  (void)vgic.write(0, kCtlr, 4, 1);
  CHECK(vgic.raise_hardware(0, kSpi, kPhysical) == 1);
  CHECK(vgic.flush(0, image) == 0);
  CHECK(image.used == 1);
  CHECK(image.lr[0] == (gich::kLrHardware | gich::kLrPending | kPhysical << gich::kLrPhysicalIdShift | kSpi));

  CHECK(vgic.listing_elsewhere(1, kClearPending + 4) == 1);
  CHECK(vgic.listing_elsewhere(1, kClearPending + 8) == 0);
  CHECK(vgic.listing_elsewhere(0, kClearPending + 4) == 0);
  CHECK(vgic.read(1, kSetPending + 4, 4) == 1U << (kSpi - 32));
  CHECK(vgic.write(1, kClearPending + 4, 4, ~0U) == 1);
  CHECK(vgic.read(1, kSetPending + 4, 4) == 0);
  CHECK(vgic.dirty(0));
  CHECK(vgic.flush(0, image) == 0);
  CHECK(image.used == 0);
  CHECK(vgic.next_deactivation(0) == kPhysical);
  CHECK_FALSE(vgic.next_deactivation(0));
}

TEST_CASE("a physical interrupt that fires again before the vCPU is looked at belongs to the next virtual one") {
  Vgic vgic(1, 4);
  GichState image;
  (void)vgic.write(0, kSetEnable, 4, 1U << kTimer);
  (void)vgic.write(0, kCtlr, 4, 1);
  (void)vgic.raise_hardware(0, kTimer, kTimer);
  (void)vgic.flush(0, image);
  image.lr[0] &= ~gich::kLrState;  // acknowledged and ended
  (void)vgic.raise_hardware(0, kTimer, kTimer);
  (void)vgic.flush(0, image);
  CHECK((image.lr[0] & gich::kLrHardware) != 0);
  CHECK((image.lr[0] & gich::kLrState) == gich::kLrPending);
  CHECK_FALSE(vgic.next_deactivation(0));
}

TEST_CASE("vCPUs on CPUs of their own pass an SGI around without missing one") {
  constexpr unsigned kHops = 500;
  constexpr unsigned kVcpus = 2;
  Vgic vgic(kVcpus, 4);
  (void)vgic.write(0, kCtlr, 4, 1);
  (void)vgic.write(0, kSgir, 4, kSgirSelf | 3);
  std::array<std::atomic<unsigned>, kVcpus> received{};
  const auto run = [&](unsigned v) {
    GichState image;
    VirtualInterface interface(image, 4, [](unsigned) {});
    while (received[v] < kHops) {
      // As at the entry to a guest; the kick is that this loop never stops looking.
      if (!vgic.dirty(v)) {
        std::this_thread::yield();
        continue;
      }
      (void)vgic.flush(v, image);
      while (const auto interrupt = interface.acknowledge()) {
        interface.end(interrupt->number);
        ++received[v];
        (void)vgic.write(v, kSgir, 4, kSgirOthers | 3);
      }
    }
  };
  std::thread other(run, 1);
  run(0);
  other.join();
  CHECK(received[0] == kHops);
  CHECK(received[1] == kHops);
}

}  // namespace
}  // namespace cadastre
