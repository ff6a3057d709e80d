// A guest that never runs: registers, a stage 2, and a pool of RAM for tables, to ask this CPU what it makes of them.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>

#include "arch/armv7/hcr.hh"
#include "arch/armv7/machine.hh"
#include "hyp/core/memory.hh"
#include "hyp/guest/guest_memory.hh"
#include "mm/base/address.hh"
#include "mm/translation/guest_walk.hh"
#include "mm/translation/stage2.hh"

namespace cadastre {

class ScratchGuest {
 public:
  using Table = PageTable<Stage2Geometry, GuestOperations>;

  // What it takes of memory: the root of a stage 2, and a pool of 2 MiB below 4 GiB.
  class Frames {
   public:
    Frames() = default;
    Frames(const Frames&) = delete;
    Frames& operator=(const Frames&) = delete;
    ~Frames();
    [[nodiscard]] bool complete() const { return root_.has_value() && pool_.has_value(); }
    [[nodiscard]] PhysAddr root() const { return address_of(*root_); }
    [[nodiscard]] PhysAddr pool() const { return address_of(*pool_); }

   private:
    static constexpr unsigned kRootOrder = std::countr_zero(Table::kRootBytes) - kPageShift;
    Result<Pfn> root_ = memory.pages.alloc(kRootOrder, kZero);
    Result<Pfn> pool_ = memory.pages.alloc(kPageblockOrder, kZero);
  };

  // `frames` is complete and outlives this.
  explicit ScratchGuest(const Frames& frames);
  // Leaves the CPU as if no guest had been there.
  ~ScratchGuest();
  ScratchGuest(const ScratchGuest&) = delete;
  ScratchGuest& operator=(const ScratchGuest&) = delete;

  [[nodiscard]] GuestMmu& mmu() { return mmu_; }
  [[nodiscard]] Table& stage2() { return stage2_; }
  [[nodiscard]] bool has_stage2() const { return (mmu_.hcr & arch::hcr::kStage2) != 0; }
  [[nodiscard]] PhysAddr pool() const { return pool_; }

  // Nothing is mapped by stage 2 any more.
  void clear();
  // The guest's registers into this CPU, whose TLB forgets what it knew.
  void load() const;
  // Writes a word of the guest's memory, in the order of bytes that its tables have. Nothing happens outside of the pool.
  void put32(IpaAddr ipa, std::uint32_t word);
  void put64(IpaAddr ipa, std::uint64_t word);

  // ---- GuestPhysicalMemory: nothing outside of the pool is read, as if there were no RAM.
  [[nodiscard]] std::optional<Mapping<Stage2Attributes>> translate(IpaAddr ipa) const {
    if (!has_stage2()) return Mapping{PhysAddr(ipa.value()), Stage2Attributes::ram(), kLastLevel};
    return stage2_.query(ipa);
  }
  [[nodiscard]] unsigned fault_level(IpaAddr ipa) const { return stage2_.lookup_level(ipa); }
  [[nodiscard]] std::optional<std::uint32_t> read32(PhysAddr physical) const { return read<std::uint32_t>(physical); }
  [[nodiscard]] std::optional<std::uint64_t> read64(PhysAddr physical) const { return read<std::uint64_t>(physical); }

 private:
  template <class Word>
  [[nodiscard]] Word* pool_word(PhysAddr physical) const {
    if (physical - pool_ >= kBlockSize) return nullptr;
    return reinterpret_cast<Word*>(arch::machine.linear(physical));
  }
  template <class Word>
  [[nodiscard]] std::optional<Word> read(PhysAddr physical) const {
    const Word* word = pool_word<Word>(physical);
    return word != nullptr ? std::optional(*word) : std::nullopt;
  }
  template <class Word>
  void put(IpaAddr ipa, Word word);

  const PhysAddr pool_;
  VmidAllocator vmids_;
  GuestOperations environment_;
  const std::uint8_t vmid_;
  Table stage2_;
  GuestMmu mmu_;
};

}  // namespace cadastre
