#include "hyp/check/cpu_translation.hh"

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/hcr.hh"
#include "hyp/core/console.hh"

namespace cadastre {
namespace {

constexpr std::uint64_t kParType = std::uint64_t{0xff} << 56 | 3U << 7;  // ATTR, SH
constexpr std::uint64_t kParOuter = static_cast<std::uint64_t>(Shareability::kOuter) << 7;

[[nodiscard]] bool has_long_par(const GuestMmu& mmu) {
  return (mmu.hcr & arch::hcr::kStage2) != 0 || mmu.long_format();
}

// The 32-bit format [ARMv7 B4.1.112]:
//
//            31        24 23       16 15   12 11 10  9  8 7  6   4 3   2 1  0
//   good    | PA 31..12                      |0 |NOS|NS|0|SH|inner|outer|0 |0|
//   superss.| PA 31..24  | PA 39..32 | 0     |0 |NOS|NS|0|SH|inner|outer|1 |0|
//   fault   | 0                                              |FS 5, 4..0    |1|
constexpr std::uint32_t kShortSupersection = 1U << 1;

// Strongly-ordered 001, Device 011, non-cacheable 000; write-back write-allocate 101, without 111, write-through 110.
std::uint32_t inner_type(const MemoryType& memory) {
  if (!memory.is_normal()) return memory.mair == kMairDevice ? 3 : 1;
  const unsigned inner = memory.mair & 0xf;
  return inner == 4 ? 0 : (inner & 4) == 0 ? 6 : (inner & 1) != 0 ? 5 : 7;
}
// Non-cacheable 00, write-back write-allocate 01, write-through 10, write-back 11.
std::uint32_t outer_type(const MemoryType& memory) {
  const unsigned outer = memory.mair >> 4;
  if (!memory.is_normal() || outer == 4) return 0;
  return (outer & 4) == 0 ? 2 : (outer & 1) != 0 ? 1 : 3;
}

std::uint32_t expected_short_par(const CpuDeviations& cpu, const GuestMmu& mmu,
                                 const WalkResult<GuestTranslation>& result) {
  if (!result) return short_status(result.error()) << 1 | 1;
  const auto address = static_cast<std::uint32_t>(result->physical.value());
  const auto high = static_cast<std::uint32_t>(result->physical.value() >> 32);
  constexpr unsigned kSupersectionShift = 24;
  const bool is_supersection = result->stage1.level != 0 && result->stage1.shift == kSupersectionShift;
  std::uint32_t par = is_supersection ? (address & 0xff00'0000) | kShortSupersection : address & 0xffff'f000;
  if (cpu.short_attributes_missing) return par;
  if (is_supersection) par |= high << 16;
  const MemoryType memory = stage1_memory(mmu, result->stage1);
  if (memory.shareability != Shareability::kNone) par |= 1U << 7;
  if (memory.shareability == Shareability::kInner) par |= 1U << 10;
  return par | inner_type(memory) << 4 | outer_type(memory) << 2;
}

}  // namespace

std::uint64_t ask_cpu(GuestVirtAddr address, Access access, Privilege privilege) {
  const bool writes = access == Access::kWrite;
  if (privilege == Privilege::kPrivileged) {
    writes ? arch::ATS12NSOPW::write(address.value()) : arch::ATS12NSOPR::write(address.value());
  } else {
    writes ? arch::ATS12NSOUW::write(address.value()) : arch::ATS12NSOUR::write(address.value());
  }
  arch::isb();
  return arch::PAR::read();
}

std::uint64_t expected_par(const CpuDeviations& cpu, const GuestMmu& mmu, const WalkResult<GuestTranslation>& result) {
  if (!has_long_par(mmu)) return expected_short_par(cpu, mmu, result);
  if (!result) {
    GuestFault fault = result.error();
    if (cpu.stage1_level_on_walk && fault.on_walk) fault.level = fault.walk_level;
    return par_of(fault);
  }
  const std::uint64_t par = par_of(mmu, *result);
  const bool is_short = result->stage1.level != 0 && !mmu.long_format();
  return cpu.short_attributes_missing && is_short ? (par & ~kParType) | kParOuter : par;
}

bool is_askable(const CpuDeviations& cpu, const GuestMmu& mmu, const WalkResult<GuestTranslation>& walk,
                const WalkTrace& trace) {
  if (!walk && walk.error().kind == FaultKind::kExternalOnWalk) return false;
  if (!walk && walk.error().kind == FaultKind::kDomain && has_long_par(mmu)) return false;
  if (!cpu.tables_below_4_gib) return true;
  const auto is_high = [](IpaAddr ipa) { return ipa.value() >> 32 != 0; };
  for (unsigned i = 0; i < trace.count; ++i) {
    if (is_high(trace.steps[i].address)) return false;
  }
  return walk || !walk.error().on_walk || !is_high(walk.error().ipa);
}

void Comparison::print(const GuestMmu& mmu, const Question& question) const {
  console.print("walk: {} by PL{} at {}: GuestWalk's PAR {:x}, the CPU's {:x}",
                question.access == Access::kWrite ? "write" : "read", static_cast<unsigned>(question.privilege),
                question.address, expected, par);
  console.print("walk: SCTLR {:x} TTBCR {:x} TTBR0 {:x} TTBR1 {:x} DACR {:x} PRRR {:x} NMRR {:x} HCR {:x}", mmu.sctlr,
                mmu.ttbcr, mmu.ttbr0, mmu.ttbr1, mmu.dacr, mmu.prrr, mmu.nmrr, mmu.hcr);
  for (unsigned i = 0; i < trace.count; ++i) {
    const WalkStep& step = trace.steps[i];
    console.print("walk: level {} at {} ({}): {:x}", step.level, step.address, step.physical, step.entry);
  }
}

}  // namespace cadastre
