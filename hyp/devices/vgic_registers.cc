// The vGIC's registers, as the guest sees the distributor [GICv2 4.3]. Those of one bit an interrupt are 32 words from a multiple
// of 0x80:
//
//   0x000 CTLR, TYPER, IIDR   0x100 ISENABLER   0x200 ISPENDR   0x300 ISACTIVER
//   0x080 IGROUPR             0x180 ICENABLER   0x280 ICPENDR   0x380 ICACTIVER
//
//   0x400 IPRIORITYR   0x800 ITARGETSR   0xc00 ICFGR   0xe00 NSACR   0xf00 SGIR   0xf10 CPENDSGIR   0xf20 SPENDSGIR
//   0xfd0 identification
#include <bit>

#include "hyp/devices/bits.hh"
#include "hyp/devices/vgic.hh"

namespace cadastre {

namespace {

constexpr std::uint32_t kCtlr = 0x000;
constexpr std::uint32_t kTyper = 0x004;
constexpr std::uint32_t kIidr = 0x008;
constexpr std::uint32_t kPriorities = 0x400;
constexpr std::uint32_t kTargets = 0x800;
constexpr std::uint32_t kConfigurations = 0xc00;
constexpr std::uint32_t kSgir = 0xf00;
constexpr std::uint32_t kClearPendingSgi = 0xf10;
constexpr std::uint32_t kSetPendingSgi = 0xf20;
constexpr std::uint32_t kSgiEnd = 0xf30;
constexpr std::uint32_t kIdentification = 0xfd0;

// Offset / 0x80.
enum Family : std::uint32_t {
  kControl = 0,
  kGroup,
  kSetEnable,
  kClearEnable,
  kSetPending,
  kClearPending,
  kSetActive,
  kClearActive,
};

constexpr std::uint32_t kSgiBits = 0xffff;
// The virtual interface has 32 priorities: 5 bits in a list register [GICv2 5.3.8].
constexpr std::uint8_t kPriorityMask = 0xf8;

// The programmer's model is that of a GIC-400: the same as QEMU's machine shows [GIC-400 TRM 3.3, 3.4].
constexpr std::uint32_t kImplementer = 0x0200'143b;
constexpr std::array<std::uint8_t, 12> kIds = {0x04, 0, 0, 0, 0x90, 0xb4, 0x2b, 0, 0x0d, 0xf0, 0x05, 0xb1};

// Byte accesses are for these alone [GICv2 4.1.4]; halfwords work as well.
constexpr bool byte_accessible(std::uint32_t offset) {
  return (offset >= kPriorities && offset < kConfigurations) || (offset >= kClearPendingSgi && offset < kSgiEnd);
}

// Bit n to bit 2n+1, and back: the upper bit of each field of ICFGR is "edge-triggered" [GICv2 4.3.13].
constexpr std::uint32_t spread(std::uint32_t half) {
  half = (half | half << 8) & 0x00ff'00ff;
  half = (half | half << 4) & 0x0f0f'0f0f;
  half = (half | half << 2) & 0x3333'3333;
  half = (half | half << 1) & 0x5555'5555;
  return half << 1;
}
constexpr std::uint32_t gather(std::uint32_t fields) {
  fields = fields >> 1 & 0x5555'5555;
  fields = (fields | fields >> 1) & 0x3333'3333;
  fields = (fields | fields >> 2) & 0x0f0f'0f0f;
  fields = (fields | fields >> 4) & 0x00ff'00ff;
  return (fields | fields >> 8) & 0xffff;
}
static_assert(spread(0xffff) == 0xaaaa'aaaa && spread(0x8001) == 0x8000'0002);
static_assert(gather(spread(0xbeef)) == 0xbeef && gather(0x5555'5555) == 0);

}  // namespace

std::uint32_t Vgic::read(unsigned vcpu, std::uint32_t offset, unsigned size) {
  // [GICv2 4.3.2] No lock: it never changes.
  if (offset == kTyper && size == 4) return (vcpus_ - 1) << 5 | (kWords - 1);
  return read_state(vcpu, offset, size);
}

std::uint32_t Vgic::read_state(unsigned vcpu, std::uint32_t offset, unsigned size) {
  if (offset >= kRegistersSize || (offset & (size - 1)) != 0) return 0;
  const SpinlockGuard guard(lock_);
  if (byte_accessible(offset)) {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < size; ++i) value |= std::uint32_t{read_byte(vcpu, offset + i)} << 8 * i;
    return value;
  }
  return size == 4 ? read_word(vcpu, offset) : 0;
}

VcpuMask Vgic::write(unsigned vcpu, std::uint32_t offset, unsigned size, std::uint32_t value) {
  if (offset >= kRegistersSize || (offset & (size - 1)) != 0) return 0;
  const SpinlockGuard guard(lock_);
  VcpuMask kick = 0;
  if (byte_accessible(offset)) {
    for (unsigned i = 0; i < size; ++i) {
      kick |= write_byte(vcpu, offset + i, static_cast<std::uint8_t>(value >> 8 * i));
    }
  } else if (size == 4) {
    kick = write_word(vcpu, offset, value);
  }
  return kick & ~(1U << vcpu);
}

std::uint32_t Vgic::read_word(unsigned vcpu, std::uint32_t offset) {
  if (offset >= kIdentification) return kIds[(offset - kIdentification) / 4];
  if (offset >= kConfigurations) {
    const unsigned half = (offset - kConfigurations) / 4;
    if (half >= 2 * kWords) return 0;
    return spread(bank(vcpu, half / 2).edge >> 16 * (half % 2) & 0xffff);
  }
  const unsigned word = offset % 0x80 / 4;
  if (offset / 0x80 == kControl) return offset == kCtlr ? control_ : offset == kIidr ? kImplementer : 0;
  if (word >= kWords) return 0;
  const Bank& state = bank(vcpu, word);
  switch (offset / 0x80) {
    case kGroup:
      return state.group1;
    case kSetEnable:
    case kClearEnable:
      return state.enabled;
    case kSetPending:
    case kClearPending:
      return state.pending() | state.moved;
    default:
      return state.active;
  }
}

VcpuMask Vgic::write_word(unsigned vcpu, std::uint32_t offset, std::uint32_t value) {
  if (offset == kSgir) return send_sgi(vcpu, value);
  if (offset >= kConfigurations) return write_configuration(vcpu, (offset - kConfigurations) / 4, value);
  if (offset == kCtlr) {
    if (control_ == (value & 3)) return 0;
    control_ = value & 3;
    return mark(everyone());
  }
  const unsigned word = offset % 0x80 / 4;
  return offset / 0x80 != kControl && word < kWords ? write_bits(vcpu, offset / 0x80, word, value) : 0;
}

VcpuMask Vgic::write_bits(unsigned vcpu, std::uint32_t family, unsigned word, std::uint32_t bits) {
  Bank& state = bank(vcpu, word);
  const std::uint32_t sgis = word == 0 ? kSgiBits : 0;
  // What somebody may have to list, or to take off the list.
  const std::uint32_t concerned = state.pending() | state.listed;
  switch (family) {
    case kGroup: {
      const std::uint32_t changed = state.group1 ^ bits;
      state.group1 = bits;
      return touch(vcpu, word, changed & concerned);
    }
    case kSetEnable: {
      const std::uint32_t changed = bits & ~state.enabled;
      state.enabled |= bits;
      return touch(vcpu, word, changed & concerned);
    }
    case kClearEnable: {
      const std::uint32_t changed = bits & state.enabled & ~sgis;
      state.enabled &= ~changed;
      return touch(vcpu, word, changed & state.listed);
    }
    // The pending states of SGIs are written through CPENDSGIR and SPENDSGIR [GICv2 4.3.7].
    case kSetPending:
      state.latched |= bits & ~sgis;
      return touch(vcpu, word, bits & ~sgis);
    case kClearPending:
      return clear_pending(vcpu, word, bits & ~sgis);
    case kSetActive:
      return set_active(vcpu, word, bits);
    default:
      return clear_active(vcpu, word, bits);
  }
}

// A line that is still high keeps its interrupt pending [GICv2 4.3.8].
VcpuMask Vgic::clear_pending(unsigned vcpu, unsigned word, std::uint32_t bits) {
  Bank& state = bank(vcpu, word);
  const std::uint32_t cleared = bits & (state.latched | state.moved);
  state.latched &= ~cleared;
  state.moved &= ~cleared;
  settle(vcpu, word, cleared);
  return touch(vcpu, word, cleared & state.listed);
}

// What another vCPU has listed keeps the state that its CPU interface gives it: see `listing_elsewhere`.
VcpuMask Vgic::set_active(unsigned vcpu, unsigned word, std::uint32_t bits) {
  Bank& state = bank(vcpu, word);
  const std::uint32_t changed = bits & ~state.active & ~state.listed;
  if (changed == 0) return 0;
  state.active |= changed;
  // Shared ones become active on the vCPU that says so: it is there that the guest can end them.
  if (word != 0) vcpu_[vcpu].held[word] |= changed;
  return mark(1U << vcpu);
}

VcpuMask Vgic::clear_active(unsigned vcpu, unsigned word, std::uint32_t bits) {
  Bank& state = bank(vcpu, word);
  const std::uint32_t changed = bits & state.active & ~state.listed;
  if (changed == 0) return 0;
  state.active &= ~changed;
  for (unsigned v = 0; word != 0 && v < vcpus_; ++v) vcpu_[v].held[word] &= ~changed;
  settle(vcpu, word, changed);
  return touch(vcpu, word, changed & state.pending());
}

// PPIs are level-sensitive and SGIs edge-triggered for good; of SPIs the upper bit of each field counts.
VcpuMask Vgic::write_configuration(unsigned vcpu, unsigned half, std::uint32_t value) {
  if (half < 2 || half >= 2 * kWords) return 0;
  Bank& state = bank(vcpu, half / 2);
  const unsigned shift = 16 * (half % 2);
  const std::uint32_t edge = (state.edge & ~(0xffffU << shift)) | gather(value) << shift;
  const std::uint32_t changed = edge ^ state.edge;
  const std::uint32_t before = state.pending();
  state.edge = edge;
  return touch(vcpu, half / 2, changed & (before | state.pending() | state.listed));
}

std::uint8_t Vgic::read_byte(unsigned vcpu, std::uint32_t offset) {
  if (offset >= kClearPendingSgi) return vcpu_[vcpu].sources[offset % kSgis];
  const unsigned interrupt = offset % 0x400;
  if (interrupt >= kInterrupts) return 0;
  if (offset < kTargets) return priority(vcpu, interrupt);
  // One processor needs no targets; private interrupts show whose they are [GICv2 4.3.12].
  if (vcpus_ == 1) return 0;
  return interrupt < kFirstSpi ? static_cast<std::uint8_t>(1U << vcpu) : targets_[interrupt];
}

VcpuMask Vgic::write_byte(unsigned vcpu, std::uint32_t offset, std::uint8_t value) {
  if (offset >= kClearPendingSgi) {
    const unsigned sgi = offset % kSgis;
    const VcpuMask sources = vcpu_[vcpu].sources[sgi];
    return set_sgi_sources(vcpu, sgi, offset < kSetPendingSgi ? sources & ~value : sources | (value & everyone()));
  }
  const unsigned interrupt = offset % 0x400;
  if (interrupt >= kInterrupts) return 0;
  if (offset >= kTargets) {
    return vcpus_ == 1 || interrupt < kFirstSpi ? 0 : set_targets(interrupt, value & everyone());
  }
  value &= kPriorityMask;
  if (priority(vcpu, interrupt) == value) return 0;
  priority(vcpu, interrupt) = value;
  const Bank& state = bank(vcpu, interrupt / 32);
  return touch(vcpu, interrupt / 32, (state.pending() | state.listed) & 1U << interrupt % 32);
}

// A pending interrupt follows its targets; an active one stays where it is [GICv2 4.3.12].
VcpuMask Vgic::set_targets(unsigned interrupt, VcpuMask targets) {
  if (targets_[interrupt] == targets) return 0;
  const unsigned word = interrupt / 32;
  const std::uint32_t bit = 1U << interrupt % 32;
  targets_[interrupt] = static_cast<std::uint8_t>(targets);
  for (unsigned v = 0; v < vcpus_; ++v) {
    std::uint32_t& targeted = vcpu_[v].targeted[word];
    targeted = (targets >> v & 1) != 0 ? targeted | bit : targeted & ~bit;
  }
  // A lister that is no target any more gives it back, and offers it to the new ones.
  const Bank& state = spi_[word - 1];
  return touch(0, word, (state.pending() | state.listed) & bit);
}

// [GICv2 4.3.15]
VcpuMask Vgic::send_sgi(unsigned vcpu, std::uint32_t value) {
  const unsigned sgi = value & 0xf;
  const VcpuMask self = 1U << vcpu;
  VcpuMask targets = 0;
  switch (value >> 24 & 3) {
    case 0:
      targets = value >> 16 & everyone();
      break;
    case 1:
      targets = everyone() & ~self;
      break;
    case 2:
      targets = self;
      break;
    default:
      break;  // reserved
  }
  VcpuMask kick = 0;
  for (const unsigned v : Bits(targets)) kick |= set_sgi_sources(v, sgi, vcpu_[v].sources[sgi] | self);
  return kick;
}

VcpuMask Vgic::set_sgi_sources(unsigned vcpu, unsigned sgi, VcpuMask sources) {
  Vcpu& target = vcpu_[vcpu];
  target.sources[sgi] = static_cast<std::uint8_t>(sources);
  target.bank.latched = sources != 0 ? target.bank.latched | 1U << sgi : target.bank.latched & ~(1U << sgi);
  return touch(vcpu, 0, 1U << sgi);
}

VcpuMask Vgic::listing_elsewhere(unsigned vcpu, std::uint32_t offset) {
  const unsigned word = offset % 0x80 / 4;
  // Private interrupts are nobody else's.
  if (!needs_sync(offset) || offset >= kClearPendingSgi || word == 0 || word >= kWords) return 0;
  const SpinlockGuard guard(lock_);
  VcpuMask others = 0;
  for (const unsigned i : Bits(spi_[word - 1].listed)) others |= 1U << owner_[32 * word + i];
  return others & ~(1U << vcpu);
}

}  // namespace cadastre
