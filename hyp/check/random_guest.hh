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
// The tables lie in the pool. Walks that lead out of it end, and the CPU is not asked about them.
#pragma once

#include <array>
#include <cstdint>

#include "hyp/check/random.hh"
#include "hyp/check/scratch_guest.hh"
#include "mm/base/address.hh"
#include "mm/translation/stage2_format.hh"

namespace cadastre {

class RandomGuest : public ScratchGuest {
 public:
  RandomGuest(const Frames& frames, Random& random) : ScratchGuest(frames), random_(random) {}

  // Another guest: new registers and a new stage 2. What tables there were stays in the pool.
  void renew();
  // An address to look at, with tables that lead somewhere, as far as memory is there to write them to.
  [[nodiscard]] GuestVirtAddr address();

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

  Random& random_;
  std::array<Region, 5> regions_{};
  std::uint32_t last_address_ = 0;
};

}  // namespace cadastre
