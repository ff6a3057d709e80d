// GuestWalk held against this CPU, which is asked with ATS12NSO* and answers in PAR [ARMv7 B4.2.4, B4.1.112].
#pragma once

#include <cstdint>

#include "mm/access.hh"
#include "mm/address.hh"
#include "mm/guest_walk.hh"

namespace cadastre {

// Where a CPU's answers are not the architecture's. A CPU is asked which of them are its own (find_deviations, in
// selftest_walk.cc); with them taken into account, each answer is compared bit for bit but for par_unknown(). Those named here
// are QEMU's (target/arm/ptw.c of 7.2); a Cortex-A7 or A15 has none.
struct CpuDeviations {
  // A domain is checked as soon as it is known, before the second descriptor is fetched and before the access flag, which
  // managers are not asked for: get_phys_addr_v6 returns a domain fault right after level 1. The architecture reads all
  // descriptors first, and checks the access flag before the domain [ARMv7 B3.12.3].
  bool early_domain_check = false;
  // Memory attributes are not made of short descriptors: get_phys_addr_v6 leaves them out, so that ATTR and SH are those of
  // Strongly-ordered memory, whatever the descriptor and stage 2 say, and in the 32-bit format all zero, the upper half of a
  // supersection's address too. The architecture has them combined [ARMv7 B3.8.5].
  bool short_attributes_missing = false;
  // A stage-2 fault on a walk has the level of stage 1's lookup that was fetching: get_phys_addr_v6 and _lpae write it over the
  // level of stage 2's, which the architecture reports [ARMv7 B3.13.3].
  bool stage1_level_on_walk = false;
  // The address of a long descriptor is cut to 32 bits before stage 2 sees it: S1_ptw_translate hands it on as a target_ulong.
  // Walks with tables above 4 GiB are not asked for. The architecture has 40 bits [ARMv7 B3.6.1].
  bool tables_below_4_gib = false;
};

// PAR after the operation for a read or a write by PL0 or PL1 with the registers that are loaded. A walk that meets nothing
// where a table should be is an abort in HYP mode, and not an answer.
[[nodiscard]] std::uint64_t ask_cpu(GuestVirtAddr address, Access access, Privilege privilege);

// What PAR has to be after what GuestWalk found: in the 64-bit format when there is a stage 2 (HCR.VM) or stage 1 has long
// descriptors.
[[nodiscard]] std::uint64_t expected_par(const CpuDeviations& cpu, const GuestMmu& mmu,
                                         const WalkResult<GuestTranslation>& result);

// NS of a good translation is UNKNOWN outside of Secure state [ARMv7 B4.1.112].
[[nodiscard]] constexpr std::uint64_t par_unknown(std::uint64_t par) {
  return (par & 1) == 0 ? 1U << 9 : 0;
}
[[nodiscard]] constexpr bool same_par(std::uint64_t a, std::uint64_t b) {
  return ((a ^ b) & ~(par_unknown(a) & par_unknown(b))) == 0;
}

}  // namespace cadastre
