// GuestWalk held against this CPU, which is asked with ATS12NSO* and answers in PAR [ARMv7 B4.2.4, B4.1.112].
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "mm/base/access.hh"
#include "mm/base/address.hh"
#include "mm/translation/guest_walk.hh"

namespace cadastre {

// Where a CPU's answers are not the architecture's. A CPU is asked which of them are its own; with them taken into account, each answer is compared bit for bit but for par_unknown(). Those named here
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

// And there is one that cannot be asked for: QEMU 7.2 ends itself when a domain fault has to go into PAR's 64-bit format, which
// has a code for it, 0b1111LL (arm_fi_to_lfsc). Nobody is asked for that.

// This CPU's, which are said; before it runs a guest. Nothing: it is neither the architecture's nor one of these, or there is no
// memory for the question. In cpu_deviations.cc.
[[nodiscard]] std::optional<CpuDeviations> find_deviations();

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

// ---- Both asked the same

struct Question {
  GuestVirtAddr address;
  Access access;
  Privilege privilege;
};

// Every descriptor of a walk.
struct WalkTrace {
  std::array<WalkStep, kLastLevel> steps{};
  unsigned count = 0;
  void operator()(const WalkStep& step) { steps[count++] = step; }
};

struct Comparison {
  WalkResult<GuestTranslation> walk;
  WalkTrace trace;
  bool asked = false;  // the CPU can say something about this walk
  std::uint64_t expected = 0;
  std::uint64_t par = 0;

  [[nodiscard]] bool differs() const { return asked && !same_par(expected, par); }
  // What both said, the registers, and each descriptor.
  void print(const GuestMmu& mmu, const Question& question) const;
};

[[nodiscard]] bool is_askable(const CpuDeviations& cpu, const GuestMmu& mmu, const WalkResult<GuestTranslation>& walk,
                              const WalkTrace& trace);

// GuestWalk, and this CPU, which has the registers `mmu` and the stage 2 of `guest`.
template <GuestPhysicalMemory Memory>
[[nodiscard]] Comparison compare_with_cpu(const CpuDeviations& cpu, const GuestMmu& mmu, Memory& guest,
                                          const Question& question) {
  Comparison result;
  result.walk = guest_walk(mmu, guest, question.address, question.access, question.privilege, result.trace);
  result.asked = is_askable(cpu, mmu, result.walk, result.trace);
  if (!result.asked) return result;
  result.expected = expected_par(cpu, mmu, result.walk);
  result.par = ask_cpu(question.address, question.access, question.privilege);
  return result;
}

}  // namespace cadastre
