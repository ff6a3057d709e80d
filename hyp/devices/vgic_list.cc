// The vGIC's list registers [GICv2 5.2, 5.3.8]: from the distributor's state and back.
//
//   waiting: pending, enabled, not active        active on this vCPU
//        |  most urgent first                        |  most urgent first
//        v                                           v
//   +----------+----------+-- ... --+----------+----------+
//   | LR0   P  |          |         |          | LRn   A  |   one is kept for the most urgent waiting one
//   +----------+----------+-- ... --+----------+----------+
//
// When all fit, the hardware does the rest. When not, the guest sees what it would with endless list registers:
// - a waiting one stays out: it is less urgent than what is listed as pending, so nothing is missed until none of those is
//   pending any more, which is the no-pending maintenance interrupt (NPIE).
// - an active one stays out: it is less urgent than those listed as active, and an interrupt's end comes in the opposite
//   order, so the ends that match no list register (LRENPIE, EOICount) are those of the most urgent unlisted ones.
//
// An interrupt is listed as pending and active at once only if nothing can change that behind the guest's
// back: not while others wait (its end must be seen), not level-sensitive ones (the line may fall first), not
// hardware ones [GICv2 5.2.2]. The others are listed as active, with LR.EOI, and are pending again after the
// maintenance interrupt.
#include "hyp/devices/bits.hh"
#include "hyp/devices/vgic.hh"

namespace cadastre {

namespace {

using namespace gich;

constexpr unsigned kWorstPriority = 0x100;

}  // namespace

// The enabled interrupts of the groups that GICD_CTLR forwards [GICv2 4.3.1].
std::uint32_t Vgic::forwarded(const Bank& state) const {
  const std::uint32_t group0 = (control_ & 1) != 0 ? ~state.group1 : 0;
  const std::uint32_t group1 = (control_ & 2) != 0 ? state.group1 : 0;
  return state.enabled & (group0 | group1);
}

// What there is to list for a vCPU, but for what it has listed as pending already.
Vgic::Work Vgic::survey(unsigned vcpu) const {
  Work work;
  const Vcpu& own = vcpu_[vcpu];
  for (unsigned word = 0; word < kWords; ++word) {
    const Bank& state = word == 0 ? own.bank : spi_[word - 1];
    const std::uint32_t pending = state.pending() & ~state.active & ~state.listed;
    const std::uint32_t waiting = pending == 0 ? 0 : pending & own.targeted[word] & forwarded(state);
    const std::uint32_t active = word == 0 ? state.active : own.held[word];
    work.waiting[word] = waiting;
    work.active[word] = active;
    if (waiting != 0) work.waiting_count += static_cast<unsigned>(std::popcount(waiting));
    if (active != 0) work.active_count += static_cast<unsigned>(std::popcount(active));
  }
  return work;
}

// Of a set that is not empty; among equals the lowest number.
unsigned Vgic::most_urgent(unsigned vcpu, const Words& set) {
  unsigned best = 0;
  unsigned best_priority = kWorstPriority;
  for (unsigned word = 0; word < kWords; ++word) {
    for (const unsigned i : Bits(set[word])) {
      const unsigned interrupt = 32 * word + i;
      if (priority(vcpu, interrupt) < best_priority) {
        best = interrupt;
        best_priority = priority(vcpu, interrupt);
      }
    }
  }
  return best;
}

bool Vgic::has_pending(unsigned vcpu) {
  const SpinlockGuard guard(lock_);
  return survey(vcpu).waiting_count != 0;
}

VcpuMask Vgic::sync(unsigned vcpu, GichState& image) {
  if (image.used == 0) return 0;
  const SpinlockGuard guard(lock_);
  const Words released = fold(vcpu, image);
  mark_dirty(vcpu);
  return offer(vcpu, released);
}

VcpuMask Vgic::flush(unsigned vcpu, GichState& image) {
  const SpinlockGuard guard(lock_);
  const bool was_in_use = image.used != 0;
  Words released;
  if (was_in_use) released = fold(vcpu, image);
  image.hcr = kHcrEnable;
  const Work work = survey(vcpu);
  const unsigned count = work.waiting_count + work.active_count;
  if (count > list_registers_) {
    list_some(vcpu, work, image);
  } else if (count != 0) {
    unsigned index = 0;
    for (unsigned word = 0; word < kWords; ++word) {
      for (const unsigned i : Bits(work.waiting[word] | work.active[word])) {
        list(vcpu, 32 * word + i, image, index++, true);
      }
    }
  }
  dirty_[vcpu].store(false, std::memory_order_relaxed);
  return was_in_use ? offer(vcpu, released) : 0;
}

// More than there are list registers.
void Vgic::list_some(unsigned vcpu, Work work, GichState& image) {
  unsigned index = 0;
  const auto list_most_urgent = [&](Words& set) REQUIRES(lock_) {
    const unsigned interrupt = most_urgent(vcpu, set);
    set[interrupt / 32] &= ~(1U << interrupt % 32);
    list(vcpu, interrupt, image, index++, false);
  };
  const unsigned active_room = list_registers_ - (work.waiting_count != 0 ? 1 : 0);
  for (; work.active_count != 0 && index < active_room; --work.active_count) list_most_urgent(work.active);
  for (; work.waiting_count != 0 && index < list_registers_; --work.waiting_count) list_most_urgent(work.waiting);
  if (work.waiting_count != 0) image.hcr |= kHcrNoPending;
  if (work.active_count != 0) image.hcr |= kHcrEntryNotPresent;
}

// `interrupt` is active or to be delivered. `both_states`: it may be listed as pending and active at once.
void Vgic::list(unsigned vcpu, unsigned interrupt, GichState& image, unsigned index, bool both_states) {
  const unsigned word = interrupt / 32;
  const std::uint32_t bit = 1U << interrupt % 32;
  Bank& state = bank(vcpu, word);
  Vcpu& own = vcpu_[vcpu];
  const bool active = (state.active & bit) != 0;
  const bool hardware = (state.hardware & bit) != 0;

  // An SGI is listed with one source at a time; an active one stays that source's.
  unsigned source = 0;
  bool same_source = true;
  if (interrupt < kSgis) {
    const std::uint8_t sources = own.sources[interrupt];
    source = active ? own.active_source[interrupt] : static_cast<unsigned>(std::countr_zero(sources));
    same_source = (sources >> source & 1) != 0;
  }
  const bool again = both_states && same_source && !hardware &&
                     (state.edge & state.latched & forwarded(state) & own.targeted[word] & bit) != 0;
  const bool pending = !active || again;
  if (pending && (state.latched & bit) != 0) {
    state.moved |= bit;
    std::uint8_t other_sources = 0;
    if (interrupt < kSgis) {
      other_sources = own.sources[interrupt] &= static_cast<std::uint8_t>(~(1U << source));
    }
    if (other_sources == 0) state.latched &= ~bit;
  }

  std::uint32_t lr = interrupt | std::uint32_t{priority(vcpu, interrupt)} >> 3 << kLrPriorityShift;
  if (active) lr |= kLrActive;
  if (pending) lr |= kLrPending;
  if ((state.group1 & bit) != 0) lr |= kLrGroup1;
  if (hardware && (state.latched & bit) == 0) {
    // The link to the physical interrupt moves along: should that one fire again before the next sync, it is
    // a new one.
    state.hardware &= ~bit;
    lr |= kLrHardware | std::uint32_t{physical(vcpu, interrupt)} << kLrPhysicalIdShift;
  } else {
    lr |= source << kLrCpuIdShift;
    // Its end is not the last of it: still pending, or a physical interrupt is left to deactivate.
    if (((state.pending() | state.hardware) & bit) != 0) lr |= kLrEoi;
  }
  state.listed |= bit;
  if (interrupt >= kFirstSpi) owner_[interrupt] = static_cast<std::uint8_t>(vcpu);
  own.listed[index] = static_cast<std::uint8_t>(interrupt);
  image.lr[index] = lr;
  image.used |= std::uint64_t{1} << index;
}

// Returns what was this vCPU's, and may now be another's.
Vgic::Words Vgic::fold(unsigned vcpu, GichState& image) {
  Words released{};
  // First, while those that are listed can be told from those that are not.
  if ((image.hcr & kHcrEntryNotPresent) != 0) end_unlisted(vcpu, image.hcr >> kHcrEoiCountShift, released);
  for (const unsigned index : Bits(image.used)) {
    const unsigned interrupt = vcpu_[vcpu].listed[index];
    fold_one(vcpu, interrupt, image.lr[index]);
    released[interrupt / 32] |= 1U << interrupt % 32;
    image.lr[index] = 0;
  }
  image.used = 0;
  image.hcr = kHcrEnable;
  return released;
}

void Vgic::fold_one(unsigned vcpu, unsigned interrupt, std::uint32_t lr) {
  const unsigned word = interrupt / 32;
  const std::uint32_t bit = 1U << interrupt % 32;
  Bank& state = bank(vcpu, word);
  Vcpu& own = vcpu_[vcpu];
  const unsigned source = lr >> kLrCpuIdShift & 7;

  state.listed &= ~bit;
  // Not acknowledged, so its latch comes back; unless it was cleared meanwhile.
  if ((lr & kLrPending) != 0 && (state.moved & bit) != 0) {
    state.latched |= bit;
    if (interrupt < kSgis) own.sources[interrupt] |= static_cast<std::uint8_t>(1U << source);
  }
  state.moved &= ~bit;
  if ((lr & kLrActive) != 0) {
    state.active |= bit;
    if (interrupt >= kFirstSpi) own.held[word] |= bit;
    if (interrupt < kSgis) own.active_source[interrupt] = static_cast<std::uint8_t>(source);
  } else {
    state.active &= ~bit;
    own.held[word] &= ~bit;
  }
  // Ended by the guest, the hardware has deactivated the physical one itself.
  if ((lr & kLrHardware) != 0 && (lr & kLrState) != 0) state.hardware |= bit;
  settle(vcpu, word, bit);
}

// Shared interrupts that this vCPU has let go of, and are pending, are for their other targets to list. Those
// that it has listed again are not: two targets that offer each other what they keep would never come to an
// end.
VcpuMask Vgic::offer(unsigned vcpu, const Words& released) {
  VcpuMask others = 0;
  for (unsigned word = 1; word < kWords; ++word) {
    if (released[word] == 0) continue;
    const Bank& state = spi_[word - 1];
    for (const unsigned i : Bits(released[word] & state.pending() & ~state.active & ~state.listed)) {
      others |= targets_[32 * word + i];
    }
  }
  return mark(others & ~(1U << vcpu));
}

// `count` ends have matched no list register. Interrupts end in the opposite order of their acknowledgement,
// so these are of the most urgent ones that are active and not listed.
void Vgic::end_unlisted(unsigned vcpu, unsigned count, Words& released) {
  for (; count != 0; --count) {
    Words unlisted = survey(vcpu).active;
    for (unsigned word = 0; word < kWords; ++word) unlisted[word] &= ~bank(vcpu, word).listed;
    if (unlisted == Words{}) break;
    const unsigned interrupt = most_urgent(vcpu, unlisted);
    const unsigned word = interrupt / 32;
    const std::uint32_t bit = 1U << interrupt % 32;
    bank(vcpu, word).active &= ~bit;
    vcpu_[vcpu].held[word] &= ~bit;
    released[word] |= bit;
    settle(vcpu, word, bit);
  }
}

}  // namespace cadastre
