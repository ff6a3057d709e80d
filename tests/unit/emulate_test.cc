#include "hyp/emulate/emulate.hh"

#include <random>
#include <vector>

#include "tests/unit/small_guest.hh"

namespace cadastre {
namespace {

using Rights = SmallGuest::Rights;
namespace psr = arch::psr;

constexpr std::uint32_t kCode = 0x2000'0000;
constexpr std::uint32_t kCodeIpa = SmallGuest::kRam + 0x2'0000;
constexpr std::uint32_t kDevice = 0x0900'0000;
constexpr std::uint32_t kDeviceSize = 0x1000;

// A vCPU whose instructions are in two pages of RAM, and a device whose registers remember what was written.
struct Machine : SmallGuest {
  Machine() {
    page(kCode, kCodeIpa, Rights::kAll);
    page(kCode + 0x1000, kCodeIpa + 0x1000, Rights::kAll);
    section(kDevice, kDevice, Rights::kPrivileged, /*execute=*/false);
    cpsr_ = psr::kSupervisor;
    pc_ = kCode;
    for (std::uint32_t i = 0; i < kDeviceSize / 4; ++i) registers[i] = 0x8000'0000U + i;
  }
  void arm(std::uint32_t instruction) { poke(kCodeIpa + (pc_ - kCode), instruction); }
  void thumb(std::uint16_t first, std::uint16_t second = 0xdead) {
    cpsr_ |= psr::kThumb;
    for (unsigned i = 0; i < 2; ++i) {
      at(kCodeIpa + (pc_ - kCode) + i) = static_cast<std::byte>(first >> 8 * i);
      at(kCodeIpa + (pc_ - kCode) + 2 + i) = static_cast<std::byte>(second >> 8 * i);
    }
  }
  std::expected<Emulation, EmulationAbort> run() { return emulate_access(*this); }
  bool done() {
    const auto outcome = run();
    return outcome && *outcome == Emulation::kDone;
  }
  EmulationAbort abort() {
    const auto before = r;
    const auto outcome = run();
    REQUIRE_FALSE(outcome);
    CHECK(r == before);
    CHECK(pc_ == start_);
    return outcome.error();
  }

  // ---- EmulatedCpu
  [[nodiscard]] std::uint32_t get(unsigned number) const { return r[number]; }
  void set(unsigned number, std::uint32_t value) {
    REQUIRE(number < 15);
    r[number] = value;
  }
  [[nodiscard]] std::uint32_t pc() const { return pc_; }
  void set_pc(std::uint32_t value) { pc_ = value; }
  [[nodiscard]] std::uint32_t cpsr() const { return cpsr_; }
  void set_cpsr(std::uint32_t value) { cpsr_ = value; }
  CopyResult fetch(GuestVirtAddr address, std::span<std::byte> bytes, Privilege privilege) {
    return copy_from_guest(mmu, *this, address, bytes, Access::kExecute, privilege);
  }
  WalkResult<std::uint32_t> load(GuestVirtAddr address, unsigned size, Privilege privilege) {
    std::uint32_t value = 0;
    const auto offset = reach(address, size, Access::kRead, privilege, [&](PhysAddr physical) {
      read(physical, std::as_writable_bytes(std::span(&value, 1)).first(size));
    });
    if (!offset) return std::unexpected(offset.error());
    log.push_back(address.value() & 0xfff);
    if (*offset == kDeviceSize) return value;
    return registers[*offset / 4] >> 8 * (*offset % 4) & ~0U >> (32 - 8 * size);
  }
  WalkResult<void> store(GuestVirtAddr address, unsigned size, std::uint32_t value, Privilege privilege) {
    const auto offset = reach(address, size, Access::kWrite, privilege, [&](PhysAddr physical) {
      write(physical, std::as_bytes(std::span(&value, 1)).first(size));
    });
    if (!offset) return std::unexpected(offset.error());
    log.push_back(address.value() & 0xfff);
    if (*offset == kDeviceSize) return {};
    const std::uint32_t mask = ~0U >> (32 - 8 * size) << 8 * (*offset % 4);
    registers[*offset / 4] = (registers[*offset / 4] & ~mask) | (value << 8 * (*offset % 4) & mask);
    return {};
  }

  std::array<std::uint32_t, 15> r{};
  std::array<std::uint32_t, kDeviceSize / 4> registers{};
  std::vector<std::uint32_t> log;  // the offsets that were accessed
  std::uint32_t pc_ = 0;
  std::uint32_t cpsr_ = 0;
  std::uint32_t start_ = kCode;

 private:
  // The device's register; kDeviceSize: it was RAM, and ram() has seen to it.
  template <class Ram>
  WalkResult<std::uint32_t> reach(GuestVirtAddr address, unsigned size, Access access, Privilege privilege, Ram&& ram) {
    if (!address.is_aligned(size)) return std::unexpected(GuestFault{.kind = FaultKind::kAlignment});
    const auto result = walk_populating(mmu, *this, address, access, privilege);
    if (result) {
      ram(result->physical);
      return kDeviceSize;
    }
    if (!result.error().stage2 || result.error().ipa.value() - kDevice >= kDeviceSize) {
      return std::unexpected(result.error());
    }
    return static_cast<std::uint32_t>(result.error().ipa.value() - kDevice);
  }
};

TEST_CASE("LDM loads register by register from consecutive addresses, and writes its base back") {
  Machine m;
  m.r[1] = kDevice + 0x10;
  m.arm(0xe8b1401d);  // ldm r1!, {r0, r2, r3, r4, lr}
  REQUIRE(m.done());
  CHECK(m.r[0] == 0x8000'0004);
  CHECK(m.r[2] == 0x8000'0005);
  CHECK(m.r[4] == 0x8000'0007);
  CHECK(m.r[14] == 0x8000'0008);
  CHECK(m.r[1] == kDevice + 0x24);
  CHECK(m.pc_ == kCode + 4);
  CHECK(m.log == std::vector<std::uint32_t>{0x10, 0x14, 0x18, 0x1c, 0x20});
}

TEST_CASE("STM, STRD, and bytes with write-back store") {
  Machine m;
  m.r = {kDevice + 0x20, 11, 22, 33, 44};
  m.arm(0xe920001e);  // stmdb r0!, {r1-r4}
  REQUIRE(m.done());
  CHECK(m.r[0] == kDevice + 0x10);
  CHECK(m.registers[4] == 11);
  CHECK(m.registers[7] == 44);
  m.arm(0xe1c022f8);  // strd r2, r3, [r0, #40]
  REQUIRE(m.done());
  CHECK(m.registers[(0x10 + 40) / 4] == 22);
  CHECK(m.registers[(0x10 + 44) / 4] == 33);
  m.r[5] = 0x1234'56ab;
  m.arm(0xe4c05003);  // strb r5, [r0], #3
  REQUIRE(m.done());
  CHECK(m.registers[4] == 0xab);
  CHECK(m.r[0] == kDevice + 0x13);
  m.arm(0xe170'20d0);  // ldrsb r2, [r0, #-0]!
  REQUIRE(m.done());
  CHECK(m.r[2] == 0);
}

TEST_CASE("a Thumb instruction advances its IT block, and has the condition of it") {
  Machine m;
  m.r[1] = kDevice;
  // it state 0b0000'0100: EQ, and one more after it
  m.cpsr_ = with_it_state(psr::kSupervisor | 1U << 30, 0b0000'0100);
  m.thumb(0xc90c);  // ldm r1!, {r2, r3}
  REQUIRE(m.done());
  CHECK(m.r[3] == 0x8000'0001);
  CHECK(m.pc_ == kCode + 2);
  CHECK(it_state(m.cpsr_) == 0b0000'1000);
  m.thumb(0xe9d1, 0x4502);  // ldrd r4, r5, [r1, #8]
  REQUIRE(m.done());
  CHECK(m.r[4] == 0x8000'0004);
  CHECK(m.pc_ == kCode + 6);
  CHECK(it_state(m.cpsr_) == 0);
  m.cpsr_ = with_it_state(m.cpsr_ & ~(1U << 30), 0b0000'1000);  // EQ no more
  m.thumb(0xe9d1, 0x6702);
  CHECK(m.run().value_or(Emulation::kDone) == Emulation::kAgain);
  CHECK(m.r[6] == 0);
}

TEST_CASE("an ARM instruction that would not be executed is left to the CPU") {
  Machine m;
  m.r[1] = kDevice;
  m.arm(0x08b1000c);  // ldmeq r1!, {r2, r3}
  CHECK(m.run().value_or(Emulation::kDone) == Emulation::kAgain);
  CHECK(m.log.empty());
  m.cpsr_ |= 1U << 30;
  CHECK(m.done());
}

TEST_CASE("what is not an access is not emulated") {
  Machine m;
  for (const std::uint32_t instruction : {0xe1a00000U, 0xe1921f9fU, 0xed910b00U, 0xf57ff04fU}) {
    m.arm(instruction);
    CHECK(m.run().value_or(Emulation::kDone) == Emulation::kUnknown);
  }
  m.cpsr_ |= psr::kJazelle | psr::kThumb;
  CHECK(m.run().value_or(Emulation::kDone) == Emulation::kUnknown);
  CHECK(m.pc_ == kCode);
}

TEST_CASE("an access that aborts leaves every register as it was, and says where") {
  Machine m;
  m.r[1] = kDevice + 0xff8;
  m.arm(0xe8b1001c);  // ldm r1!, {r2-r4}
  const EmulationAbort nothing = m.abort();
  CHECK(nothing.access == Access::kRead);
  CHECK(nothing.address == GuestVirtAddr(kDevice + 0x1000));
  CHECK(nothing.fault.stage2);
  CHECK(m.log.size() == 2);

  m.r[1] = kDevice + 0xf'fffc;
  m.section(kDevice + 0x10'0000, kDevice, Rights::kReadOnly);
  m.arm(0xe881000c);  // stm r1, {r2, r3}
  CHECK(m.abort().address == GuestVirtAddr(kDevice + 0xf'fffc));
  m.r[1] = kDevice + 0x10'0000;
  const EmulationAbort permission = m.abort();
  CHECK(permission.access == Access::kWrite);
  CHECK(permission.fault == GuestFault{.kind = FaultKind::kPermission, .level = 1});
}

TEST_CASE("PL0's rights are those of an unprivileged access, and of user mode") {
  Machine m;
  m.r[1] = kDevice;
  m.arm(0xe4b12004);  // ldrt r2, [r1], #4
  CHECK(m.abort().fault.kind == FaultKind::kPermission);
  m.cpsr_ = psr::kUser;
  m.arm(0xe8b1000c);  // ldm r1!, {r2, r3}
  CHECK(m.abort().fault.kind == FaultKind::kPermission);
  m.cpsr_ = psr::kSystem;
  CHECK(m.done());
}

TEST_CASE("a fault of the fetch is a prefetch abort at the halfword that is not there") {
  Machine m;
  m.r[1] = kDevice;
  m.pc_ = m.start_ = kCode + 0x1ffe;
  m.thumb(0xe891);  // ldm.w r1, ...: and the page ends
  const EmulationAbort abort = m.abort();
  CHECK(abort.access == Access::kExecute);
  CHECK(abort.address == GuestVirtAddr(kCode + 0x2000));
  CHECK(abort.fault == GuestFault{.kind = FaultKind::kTranslation, .level = 2});
  // A short one has nothing to do with the next page.
  m.thumb(0xc90c);  // ldm r1!, {r2, r3}
  CHECK(m.done());
}

TEST_CASE("an instruction may lie across two pages") {
  Machine m;
  m.r[1] = kDevice;
  m.pc_ = kCode + 0xffe;
  m.thumb(0xe891, 0x000c);  // ldm.w r1, {r2, r3}
  REQUIRE(m.done());
  CHECK(m.r[2] == 0x8000'0000);
  CHECK(m.pc_ == kCode + 0x1002);
}

TEST_CASE("a load of PC branches, to either state") {
  Machine m;
  m.r[1] = kDevice;
  m.registers[1] = kCode + 0x101;
  m.arm(0xe8918004);  // ldm r1, {r2, pc}
  REQUIRE(m.done());
  CHECK(m.pc_ == kCode + 0x100);
  CHECK((m.cpsr_ & psr::kThumb) != 0);
  m.registers[1] = kCode + 0x20;
  m.thumb(0xe891, 0x8004);
  REQUIRE(m.done());
  CHECK(m.pc_ == kCode + 0x20);
  CHECK((m.cpsr_ & psr::kThumb) == 0);
}

TEST_CASE("a guest that stores big-endian has its bytes that way") {
  Machine m;
  m.cpsr_ |= psr::kBigEndian;
  m.r[1] = kDevice;
  m.r[2] = 0x1122'3344;
  m.arm(0xe8a10004);  // stm r1!, {r2}
  REQUIRE(m.done());
  CHECK(m.registers[0] == 0x4433'2211);
  m.r[1] = kDevice;
  m.arm(0xe0d130b2);  // ldrh r3, [r1], #2
  REQUIRE(m.done());
  CHECK(m.r[3] == 0x1122);
  CHECK(in_byte_order(0xab, 1, psr::kBigEndian) == 0xab);
}

TEST_CASE("no instruction harms anybody, whatever its bits") {
  std::mt19937_64 random(test_seed());
  Machine m;
  for (unsigned i = 0; i < 50'000; ++i) {
    for (auto& value : m.r) value = kDevice + static_cast<std::uint32_t>(random() % 0x400);
    m.cpsr_ = psr::kSupervisor | static_cast<std::uint32_t>(random() << 28) |
              (random() % 2 == 0 ? psr::kThumb : std::uint32_t{0}) | (random() % 8 == 0 ? psr::kBigEndian : 0U);
    m.pc_ = kCode;
    m.log.clear();
    m.arm(static_cast<std::uint32_t>(random()));
    const auto before = m.r;
    const auto outcome = m.run();
    REQUIRE(m.log.size() <= 16);
    if (outcome && *outcome == Emulation::kDone) continue;
    REQUIRE(m.r == before);
    REQUIRE(m.pc_ == kCode);
  }
}

}  // namespace
}  // namespace cadastre
