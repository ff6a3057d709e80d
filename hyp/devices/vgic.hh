// The interrupt controller of one VM: an emulated GICv2 distributor [GICv2 4.3], and what its vCPUs' list
// registers hold [GICv2 5.2]. The CPU interface that a guest uses is the hardware's GICV; the list registers
// are what it serves from. As a GICv2 without the Security Extensions, with interrupt groups, for up to 8
// vCPUs and 128 interrupts:
//
//      0..15   software generated (SGI), banked by target vCPU, pending by source vCPU
//     16..31   private peripherals (PPI), banked by vCPU; level-sensitive
//     32..127  shared peripherals (SPI); what ITARGETSR says; edge-triggered or level-sensitive as ICFGR says
//
// An interrupt is in one of two places:
//
//     here      enabled, latched, level, active: a bit each in its Bank
//       | flush(): before the vCPU is entered              ^
//       v                                                  | sync(): folds what is left back
//     listed    in one list register of one vCPU; the guest acknowledges and ends it without a trap
//
// What changes here marks the vCPUs that may have to list something else as dirty, and returns them, a bit
// each, to be kicked: those that run elsewhere must leave the guest, those that wait for an interrupt must be
// looked at again.
//
// Entering a guest:                                   Leaving it: nothing, unless
//     if (vgic.dirty(vcpu)) {                          - the vCPU stops running here, or waits (WFI), or
//       if (image.used != 0) <hardware to image>       - needs_sync(offset) of a distributor access:
//       vgic.flush(vcpu, image)                            <hardware to image>
//       <image to hardware: LRs, HCR>                      vgic.sync(vcpu, image)
//       while (auto id = vgic.next_deactivation(vcpu))
//         <GICC_DIR = *id>
//     }
// A maintenance interrupt needs mark_dirty(vcpu) only.
//
// The state of an interrupt that another vCPU has listed, and that runs, is known exactly only after that one has synced:
// as long as `listing_elsewhere` names any, make them leave the guest and sync, and hold them until the access is done.
// Without it nothing breaks: what is listed elsewhere shows the state of its last flush, keeps its active state against
// ISACTIVER and ICACTIVER, and is taken back by ICPENDR if it has not been acknowledged meanwhile.
//
// Limits, as the hardware only counts the ends of interrupts that are not listed (EOICount) and does not name them
// [GICv2 5.3.1]: while more interrupts are active on a vCPU than there are list registers, they must end in the order of
// their priorities, on the vCPU that acknowledged them. A guest has to do otherwise on purpose: by deactivating apart
// from ending (EOImode 1), by changing the priority of an active interrupt, or by setting active states itself.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "hyp/devices/gich_state.hh"
#include "hyp/devices/vcpu_limit.hh"
#include "mm/base/annotations.hh"
#include "mm/base/spinlock.hh"

namespace cadastre {

using VcpuMask = std::uint32_t;  // a bit each

class Vgic {
 public:
  static constexpr unsigned kInterrupts = 128;
  static constexpr unsigned kSgis = 16;
  static constexpr unsigned kFirstSpi = 32;
  static constexpr std::uint32_t kRegistersSize = 0x1000;

  // `vcpus` in [1, 8], `list_registers` (GICH_VTR.ListRegs + 1) in [1, 64].
  Vgic(unsigned vcpus, unsigned list_registers);
  Vgic(const Vgic&) = delete;
  Vgic& operator=(const Vgic&) = delete;

  // A guest's access to GICD, `offset` bytes from its base. What the architecture reserves or does not allow
  // (other sizes, misaligned) reads as zero and ignores writes. `write` returns the other vCPUs to kick.
  [[nodiscard]] std::uint32_t read(unsigned vcpu, std::uint32_t offset, unsigned size) EXCLUDES(lock_);
  [[nodiscard]] VcpuMask write(unsigned vcpu, std::uint32_t offset, unsigned size, std::uint32_t value) EXCLUDES(lock_);
  // Whether an access needs the list registers folded back first: the pending and active states.
  [[nodiscard]] static constexpr bool needs_sync(std::uint32_t offset) {
    return (offset >= 0x200 && offset < 0x400) || (offset >= 0xf10 && offset < 0xf30);
  }
  // The other vCPUs that have an interrupt listed whose state an access at `offset` shows or changes.
  [[nodiscard]] VcpuMask listing_elsewhere(unsigned vcpu, std::uint32_t offset) EXCLUDES(lock_);

  // Input lines. `vcpu` counts for PPIs only. All return the vCPUs to kick.
  // A line's level, for level-sensitive interrupts; its rising edge, for edge-triggered ones.
  [[nodiscard]] VcpuMask set_level(unsigned vcpu, unsigned interrupt, bool level) EXCLUDES(lock_);
  // One edge.
  [[nodiscard]] VcpuMask raise(unsigned vcpu, unsigned interrupt) EXCLUDES(lock_);
  // The physical interrupt `physical` has been acknowledged, and stays active until the guest deactivates its
  // own.
  [[nodiscard]] VcpuMask raise_hardware(unsigned vcpu, unsigned interrupt, unsigned physical) EXCLUDES(lock_);

  // Whether the vCPU must be flushed before it enters the guest again. Without the lock: whoever makes it
  // dirty kicks it afterwards, and the kick, taken as soon as the guest is entered, brings it back here.
  [[nodiscard]] bool dirty(unsigned vcpu) const { return dirty_[vcpu].load(std::memory_order_relaxed); }
  void mark_dirty(unsigned vcpu) { dirty_[vcpu].store(true, std::memory_order_relaxed); }

  // Folds what the list registers hold back into the distributor's state. `image`: what the hardware holds
  // now; empty afterwards. Returns the other vCPUs to kick: a shared interrupt that this one lets go of may
  // be theirs.
  [[nodiscard]] VcpuMask sync(unsigned vcpu, GichState& image) EXCLUDES(lock_);
  // Lists the active interrupts and the most urgent pending ones, after a sync if `image` is in use. Asks for
  // a maintenance interrupt (HCR, LR.EOI) where the guest's progress must be seen: when not all could be
  // listed, and when the end of an interrupt is not its last. Returns as `sync` does.
  [[nodiscard]] VcpuMask flush(unsigned vcpu, GichState& image) EXCLUDES(lock_);
  // The next physical interrupt for the hypervisor to deactivate because the guest has cleared its own
  // otherwise than by ending it. On the CPU that runs `vcpu`, after `flush`.
  [[nodiscard]] std::optional<unsigned> next_deactivation(unsigned vcpu) EXCLUDES(lock_);

  // Whether an interrupt waits for this vCPU, which ends a WFI. Of a vCPU that is synced.
  [[nodiscard]] bool has_pending(unsigned vcpu) EXCLUDES(lock_);
  // Whether `interrupt` stands for a physical one that is active: to be made so again where the vCPU runs
  // next.
  [[nodiscard]] bool hardware_active(unsigned vcpu, unsigned interrupt) EXCLUDES(lock_);

  // As after power-on, for a VM whose vCPUs are all stopped and synced. The lines keep their level. Physical
  // interrupts in flight are handed to `next_deactivation`.
  void reset() EXCLUDES(lock_);

  [[nodiscard]] unsigned vcpus() const { return vcpus_; }

 private:
  static constexpr unsigned kWords = kInterrupts / 32;
  using Words = std::array<std::uint32_t, kWords>;

  // 32 interrupts, a bit each.
  struct Bank {
    std::uint32_t enabled = 0;
    std::uint32_t group1 = 0;
    std::uint32_t edge = 0;      // triggered by edges; SGIs count as such
    std::uint32_t latched = 0;   // pending by an edge, an SGI or a write to ISPENDR
    std::uint32_t level = 0;     // the input line
    std::uint32_t active = 0;    // as far as known: a listed one may have become or ceased to be so meanwhile
    std::uint32_t listed = 0;    // in a list register
    std::uint32_t moved = 0;     // listed as pending, its latch with it
    std::uint32_t hardware = 0;  // stands for a physical interrupt, which is active

    // [GICv2 4.3.8, figure 4-10] A level-sensitive interrupt is pending by its line or by its latch.
    [[nodiscard]] std::uint32_t pending() const { return latched | (level & ~edge); }
  };

  struct Vcpu {
    Bank bank;           // SGIs and PPIs
    Words targeted{};    // SPIs that ITARGETSR sends here, among others perhaps; word 0 is all ones
    Words held{};        // SPIs that are active here; word 0 is not used
    Words deactivate{};  // physical interrupts, by their virtual number, for `next_deactivation`
    std::array<std::uint8_t, kFirstSpi> priority{};
    std::array<std::uint16_t, kFirstSpi> physical{};
    std::array<std::uint8_t, kSgis> sources{};  // vCPUs whose SGI is pending, a bit each: `latched` says if any
    std::array<std::uint8_t, kSgis> active_source{};
    std::array<std::uint8_t, gich::kMaxListRegisters> listed{};  // which interrupt a list register holds
  };

  struct Work {
    Words waiting{};  // pending, enabled, not active, and for this vCPU
    Words active{};   // on this vCPU
    unsigned waiting_count = 0;
    unsigned active_count = 0;
  };

  [[nodiscard]] Bank& bank(unsigned vcpu, unsigned word) REQUIRES(lock_) {
    return word == 0 ? vcpu_[vcpu].bank : spi_[word - 1];
  }
  [[nodiscard]] std::uint8_t& priority(unsigned vcpu, unsigned interrupt) REQUIRES(lock_) {
    return interrupt < kFirstSpi ? vcpu_[vcpu].priority[interrupt] : priority_[interrupt];
  }
  [[nodiscard]] std::uint16_t& physical(unsigned vcpu, unsigned interrupt) REQUIRES(lock_) {
    return interrupt < kFirstSpi ? vcpu_[vcpu].physical[interrupt] : physical_[interrupt];
  }
  [[nodiscard]] VcpuMask everyone() const { return (1U << vcpus_) - 1; }
  [[nodiscard]] std::uint32_t forwarded(const Bank& bank) const REQUIRES(lock_);

  // Registers (vgic_registers.cc).
  // What may change, and so needs the lock; apart from what does not, whose reads are short.
  [[nodiscard, gnu::noinline]] std::uint32_t read_state(unsigned vcpu, std::uint32_t offset, unsigned size)
      EXCLUDES(lock_);
  [[nodiscard]] std::uint32_t read_word(unsigned vcpu, std::uint32_t offset) REQUIRES(lock_);
  [[nodiscard]] VcpuMask write_word(unsigned vcpu, std::uint32_t offset, std::uint32_t value) REQUIRES(lock_);
  [[nodiscard]] std::uint8_t read_byte(unsigned vcpu, std::uint32_t offset) REQUIRES(lock_);
  [[nodiscard]] VcpuMask write_byte(unsigned vcpu, std::uint32_t offset, std::uint8_t value) REQUIRES(lock_);
  [[nodiscard]] VcpuMask write_bits(unsigned vcpu, std::uint32_t family, unsigned word, std::uint32_t bits)
      REQUIRES(lock_);
  [[nodiscard]] VcpuMask write_configuration(unsigned vcpu, unsigned half, std::uint32_t value) REQUIRES(lock_);
  [[nodiscard]] VcpuMask clear_pending(unsigned vcpu, unsigned word, std::uint32_t bits) REQUIRES(lock_);
  [[nodiscard]] VcpuMask set_active(unsigned vcpu, unsigned word, std::uint32_t bits) REQUIRES(lock_);
  [[nodiscard]] VcpuMask clear_active(unsigned vcpu, unsigned word, std::uint32_t bits) REQUIRES(lock_);
  [[nodiscard]] VcpuMask set_targets(unsigned interrupt, VcpuMask targets) REQUIRES(lock_);
  [[nodiscard]] VcpuMask send_sgi(unsigned vcpu, std::uint32_t value) REQUIRES(lock_);
  [[nodiscard]] VcpuMask set_sgi_sources(unsigned vcpu, unsigned sgi, VcpuMask sources) REQUIRES(lock_);

  // State (vgic.cc).
  [[nodiscard]] VcpuMask touch(unsigned vcpu, unsigned word, std::uint32_t bits) REQUIRES(lock_);
  [[nodiscard]] VcpuMask mark(VcpuMask vcpus);
  void settle(unsigned vcpu, unsigned word, std::uint32_t bits) REQUIRES(lock_);

  // List registers (vgic_list.cc).
  [[nodiscard]] Work survey(unsigned vcpu) const REQUIRES(lock_);
  [[nodiscard]] unsigned most_urgent(unsigned vcpu, const Words& set) REQUIRES(lock_);
  void list(unsigned vcpu, unsigned interrupt, GichState& image, unsigned index, bool both_states) REQUIRES(lock_);
  void list_some(unsigned vcpu, Work work, GichState& image) REQUIRES(lock_);
  [[nodiscard]] Words fold(unsigned vcpu, GichState& image) REQUIRES(lock_);
  void fold_one(unsigned vcpu, unsigned interrupt, std::uint32_t lr) REQUIRES(lock_);
  void end_unlisted(unsigned vcpu, unsigned count, Words& released) REQUIRES(lock_);
  [[nodiscard]] VcpuMask offer(unsigned vcpu, const Words& released) REQUIRES(lock_);

  const unsigned vcpus_;
  const unsigned list_registers_;
  Spinlock lock_;
  std::uint32_t control_ GUARDED_BY(lock_) = 0;
  std::array<Vcpu, kMaxVcpus> vcpu_ GUARDED_BY(lock_);
  std::array<Bank, kWords - 1> spi_ GUARDED_BY(lock_);
  // By interrupt number; the first 32 entries are not used.
  std::array<std::uint8_t, kInterrupts> priority_ GUARDED_BY(lock_){};
  std::array<std::uint8_t, kInterrupts> targets_ GUARDED_BY(lock_){};
  std::array<std::uint8_t, kInterrupts> owner_ GUARDED_BY(lock_){};  // the vCPU that has it listed
  std::array<std::uint16_t, kInterrupts> physical_ GUARDED_BY(lock_){};
  std::array<std::atomic<bool>, kMaxVcpus> dirty_{};
};

}  // namespace cadastre
