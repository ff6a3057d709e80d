// A random guest for `selftest=walk`: registers, a stage 2, and of the tables of stage 1 just as much as a few addresses need.
//
//   IPA                                                       physical
//   a window of 16 pages, each by itself                ->    any page of the pool, or nothing
//   a block of 2 MiB                                    ->    the pool
//   a block of 1 GiB                                    ->    the GiB that the pool is in
//   above 4 GiB: a block of 2 MiB, a block of 1 GiB     ->    anything
//   everything else                                           nothing
//
// Or stage 2 is off, and an IPA is a physical address [ARMv7 B3.2.1].
//
// The tables lie in the pool. Nothing outside of it is read: walks that lead there end, and the CPU is not asked about them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "arch/armv7/hcr.hh"
#include "arch/armv7/machine.hh"
#include "hyp/guest_memory.hh"
#include "hyp/random.hh"
#include "mm/address.hh"
#include "mm/guest_walk.hh"
#include "mm/stage2.hh"

namespace cadastre {

class RandomGuest {
 public:
  using Table = PageTable<Stage2Geometry, GuestEnvironment>;
  static constexpr unsigned kTableLimit = 64;

  // `root`: zeroed, Table::kRootBytes; `pool`: a block of 2 MiB of low memory. Both stay the caller's.
  RandomGuest(Random& random, PhysAddr root, PhysAddr pool);

  // Another guest: new registers and a new stage 2. What tables there were stays in the pool.
  void renew();
  // An address to look at, with tables that lead somewhere, as far as memory is there to write them to.
  [[nodiscard]] GuestVirtAddr address();
  // The guest's registers into this CPU, and its TLB forgets what it knew.
  void load() const;
  // Nothing is mapped by stage 2 any more.
  void clear();

  [[nodiscard]] GuestMmu& mmu() { return mmu_; }
  [[nodiscard]] Table& stage2() { return stage2_; }
  [[nodiscard]] bool has_stage2() const { return (mmu_.hcr & arch::hcr::kStage2) != 0; }
  // Writes a word of the guest's memory, in the order of bytes that its tables have. Nothing happens outside of the pool.
  void put32(IpaAddr ipa, std::uint32_t word);
  void put64(IpaAddr ipa, std::uint64_t word);

  // ---- GuestPhysicalMemory
  [[nodiscard]] std::optional<Mapping<Stage2Attributes>> translate(IpaAddr ipa) const {
    if (!has_stage2()) return Mapping{PhysAddr(ipa.value()), Stage2Attributes::ram(), kLastLevel};
    return stage2_.query(ipa);
  }
  [[nodiscard]] unsigned fault_level(IpaAddr ipa) const { return stage2_.lookup_level(ipa); }
  [[nodiscard]] std::optional<std::uint32_t> read32(PhysAddr physical) const { return read<std::uint32_t>(physical); }
  [[nodiscard]] std::optional<std::uint64_t> read64(PhysAddr physical) const { return read<std::uint64_t>(physical); }

 private:
  struct Region {
    IpaAddr first;
    std::uint64_t size = 0;
    std::uint64_t tables = 0;  // where in it the pool begins
  };
  static constexpr unsigned kWindowPages = 16;
  static constexpr unsigned kPoolTables = 32;  // pages of the pool that tables are put into
  static constexpr unsigned kLowRegions = 3;

  void random_controls();
  void random_short_registers();
  void random_long_registers();
  void random_stage2();
  void no_stage2();
  void random_window(IpaAddr base);
  [[nodiscard]] Stage2Attributes random_attributes();
  [[nodiscard]] std::uint32_t random_address();
  // Where a table is put, aligned to `alignment`; and where a leaf leads to.
  [[nodiscard]] std::uint64_t table_address(std::uint64_t alignment);
  [[nodiscard]] std::uint64_t leaf_address(std::uint64_t size);

  void plant_short(std::uint32_t va);
  [[nodiscard]] std::uint32_t short_access();
  [[nodiscard]] std::uint32_t section();
  [[nodiscard]] std::uint32_t supersection();
  [[nodiscard]] std::uint32_t page();
  void plant_long(std::uint32_t va);
  [[nodiscard]] Entry long_leaf(unsigned level);
  [[nodiscard]] Entry long_table();

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

  Random& random_;
  const PhysAddr pool_;
  VmidAllocator vmids_;
  GuestEnvironment environment_{OwnerId{1}};
  std::uint8_t vmid_;
  Table stage2_;
  std::array<Region, 5> regions_{};
  GuestMmu mmu_;
  std::uint32_t last_address_ = 0;
};

}  // namespace cadastre
