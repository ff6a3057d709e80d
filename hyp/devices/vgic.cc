// The vGIC's state: input lines, who is to look again, reset. Registers are in vgic_registers.cc, list
// registers in vgic_list.cc.
#include "hyp/devices/vgic.hh"

#include "hyp/devices/bits.hh"
#include "mm/base/check.hh"

namespace cadastre {

namespace {

constexpr unsigned word_of(unsigned interrupt) {
  return interrupt / 32;
}
constexpr std::uint32_t bit_of(unsigned interrupt) {
  return 1U << interrupt % 32;
}

}  // namespace

Vgic::Vgic(unsigned vcpus, unsigned list_registers) : vcpus_(vcpus), list_registers_(list_registers) {
  CHECK(vcpus >= 1 && vcpus <= kMaxVcpus);
  CHECK(list_registers >= 1 && list_registers <= gich::kMaxListRegisters);
  reset();
}

void Vgic::reset() {
  const SpinlockGuard guard(lock_);
  control_ = 0;
  for (unsigned v = 0; v < vcpus_; ++v) {
    Vcpu& vcpu = vcpu_[v];
    Vcpu fresh;
    // One processor is every interrupt's target [GICv2 4.3.12].
    fresh.targeted.fill(vcpus_ == 1 ? ~0U : 0);
    fresh.targeted[0] = ~0U;
    fresh.bank.enabled = 0xffff;  // SGIs cannot be disabled
    fresh.bank.edge = 0xffff;
    fresh.bank.level = vcpu.bank.level;
    fresh.deactivate = vcpu.deactivate;
    fresh.deactivate[0] |= vcpu.bank.hardware;
    fresh.physical = vcpu.physical;
    vcpu = fresh;
    mark_dirty(v);
  }
  for (unsigned word = 1; word < kWords; ++word) {
    Bank& bank = spi_[word - 1];
    vcpu_[0].deactivate[word] |= bank.hardware;
    bank = {.level = bank.level};
  }
  priority_.fill(0);
  targets_.fill(vcpus_ == 1 ? 1 : 0);
}

VcpuMask Vgic::mark(VcpuMask vcpus) {
  for (const unsigned v : Bits(vcpus)) mark_dirty(v);
  return vcpus;
}

// The state of `bits` has changed: for a listed interrupt its lister has to look, for the others whoever may
// list them. `vcpu` counts for private interrupts.
VcpuMask Vgic::touch(unsigned vcpu, unsigned word, std::uint32_t bits) {
  if (bits == 0) return 0;
  if (word == 0) {
    mark_dirty(vcpu);
    return 1U << vcpu;
  }
  const std::uint32_t listed = spi_[word - 1].listed;
  VcpuMask vcpus = 0;
  for (const unsigned i : Bits(bits)) {
    const unsigned interrupt = 32 * word + i;
    vcpus |= (listed & 1U << i) != 0 ? 1U << owner_[interrupt] : VcpuMask{targets_[interrupt]};
  }
  return mark(vcpus);
}

// A physical interrupt whose virtual one is neither pending nor active any more has nobody left to deactivate
// it.
void Vgic::settle(unsigned vcpu, unsigned word, std::uint32_t bits) {
  Bank& state = bank(vcpu, word);
  const std::uint32_t orphans = bits & state.hardware & ~(state.latched | state.moved | state.active | state.listed);
  if (orphans == 0) return;
  state.hardware &= ~orphans;
  vcpu_[vcpu].deactivate[word] |= orphans;
  mark_dirty(vcpu);
}

VcpuMask Vgic::set_level(unsigned vcpu, unsigned interrupt, bool level) {
  CHECK(vcpu < vcpus_ && interrupt >= kSgis && interrupt < kInterrupts);
  const unsigned word = word_of(interrupt);
  const std::uint32_t bit = bit_of(interrupt);
  const SpinlockGuard guard(lock_);
  Bank& state = bank(vcpu, word);
  if (((state.level & bit) != 0) == level) return 0;
  state.level ^= bit;
  if (level) {
    state.latched |= state.edge & bit;
    return touch(vcpu, word, bit);
  }
  return touch(vcpu, word, bit & ~state.edge & state.listed);
}

VcpuMask Vgic::raise(unsigned vcpu, unsigned interrupt) {
  CHECK(vcpu < vcpus_ && interrupt >= kSgis && interrupt < kInterrupts);
  const SpinlockGuard guard(lock_);
  bank(vcpu, word_of(interrupt)).latched |= bit_of(interrupt);
  return touch(vcpu, word_of(interrupt), bit_of(interrupt));
}

VcpuMask Vgic::raise_hardware(unsigned vcpu, unsigned interrupt, unsigned physical_id) {
  CHECK(vcpu < vcpus_ && interrupt >= kSgis && interrupt < kInterrupts && physical_id < 1020);
  const SpinlockGuard guard(lock_);
  Bank& state = bank(vcpu, word_of(interrupt));
  state.latched |= bit_of(interrupt);
  state.hardware |= bit_of(interrupt);
  physical(vcpu, interrupt) = static_cast<std::uint16_t>(physical_id);
  return touch(vcpu, word_of(interrupt), bit_of(interrupt));
}

std::optional<unsigned> Vgic::next_deactivation(unsigned vcpu) {
  const SpinlockGuard guard(lock_);
  for (unsigned word = 0; word < kWords; ++word) {
    std::uint32_t& waiting = vcpu_[vcpu].deactivate[word];
    if (waiting == 0) continue;
    const unsigned interrupt = 32 * word + static_cast<unsigned>(std::countr_zero(waiting));
    waiting &= waiting - 1;
    return physical(vcpu, interrupt);
  }
  return std::nullopt;
}

bool Vgic::hardware_active(unsigned vcpu, unsigned interrupt) {
  const SpinlockGuard guard(lock_);
  return (bank(vcpu, word_of(interrupt)).hardware & bit_of(interrupt)) != 0;
}

}  // namespace cadastre
