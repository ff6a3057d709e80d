// What this CPU does otherwise than the architecture has it: asked with one example each.
#include <cstdint>
#include <optional>
#include <string_view>

#include "arch/armv7/guest_state.hh"
#include "arch/armv7/hcr.hh"
#include "hyp/check/cpu_translation.hh"
#include "hyp/check/scratch_guest.hh"
#include "hyp/core/console.hh"
#include "mm/base/check.hh"
#include "mm/translation/memory_type.hh"

namespace cadastre {
namespace {

// One address behind one or two descriptors, in the pool.
class Probe {
 public:
  static constexpr std::uint32_t kSecondTable = 0x8000;

  explicit Probe(ScratchGuest& guest) : guest_(guest), pool_(static_cast<std::uint32_t>(guest.pool().value())) {}

  // The pool at its own address, without a stage 2, or with one that maps nothing but the pool. Tables at its beginning and at
  // kSecondTable, a client of domain 0, nothing in the others.
  [[nodiscard]] std::uint64_t ask_short(bool with_stage2, std::uint32_t first, std::uint32_t second = 0) {
    begin(IpaAddr(pool_), with_stage2 ? arch::hcr::kGuest : arch::hcr::kGuest & ~arch::hcr::kStage2);
    guest_.mmu().dacr = 1;
    guest_.put32(IpaAddr(pool_), first);
    guest_.put32(IpaAddr(pool_ + kSecondTable), second);
    return ask();
  }
  // The pool at `ipa`, one table there.
  [[nodiscard]] std::uint64_t ask_long(IpaAddr ipa, Entry first) {
    begin(ipa, arch::hcr::kGuest);
    guest_.mmu().ttbcr = 1U << 31;
    guest_.put64(ipa, first);
    return ask();
  }

 private:
  void begin(IpaAddr ipa, std::uint32_t hcr) {
    guest_.clear();
    CHECK(guest_.stage2().map_leaf(ipa, PhysAddr(pool_), 2, Stage2Attributes::ram()));
    guest_.mmu() = {.sctlr = arch::SystemRegisters::kSctlrAtReset | 1, .ttbr0 = ipa.value(), .hcr = hcr};
  }
  [[nodiscard]] std::uint64_t ask() {
    guest_.load();
    return ask_cpu(GuestVirtAddr(0), Access::kRead, Privilege::kPrivileged);
  }

  ScratchGuest& guest_;
  const std::uint32_t pool_;  // low memory, below 4 GiB
};

// `architectural` or `other`; anything else is an error.
std::optional<bool> deviates(std::string_view what, std::uint64_t par, std::uint64_t architectural,
                             std::uint64_t other) {
  if (same_par(par, architectural)) return false;
  if (same_par(par, other)) {
    console.print("this CPU translates otherwise than the manual has it: {}: PAR {:x} instead of {:x}", what, par,
                  architectural);
    return true;
  }
  console.print("{}: PAR {:x}, neither {:x} nor {:x}: not a CPU that is known here", what, par, architectural, other);
  return std::nullopt;
}

std::optional<CpuDeviations> find_with(ScratchGuest& guest) {
  using enum FaultKind;
  Probe probe(guest);
  const PhysAddr pool = guest.pool();
  const auto base = static_cast<std::uint32_t>(pool.value());
  const auto short_fault = [](FaultKind kind) { return short_status({.kind = kind, .level = 2}) << 1 | 1; };
  const auto walk_fault = [](std::uint8_t level) {
    return par_of({.kind = kTranslation, .level = level, .stage2 = true, .on_walk = true});
  };

  // Domain 1, and nothing at level 2.
  const auto early = deviates("domains are checked before the second descriptor",
                              probe.ask_short(/*with_stage2=*/false, (base + Probe::kSecondTable) | 1U << 5 | 1),
                              short_fault(kTranslation), short_fault(kDomain));
  // A table in a GiB that stage 2 knows nothing of.
  constexpr std::uint32_t kNowhere = 0x10'0000;
  const auto level = deviates("a stage-2 fault on a walk has stage 1's level",
                              probe.ask_short(/*with_stage2=*/true, kNowhere | 1), walk_fault(1), walk_fault(2));
  // A section of the pool, write-back, on inner-shareable RAM.
  const std::uint64_t address = pool.value() | 1U << 11;
  const auto attributes = deviates("short descriptors have no memory attributes",
                                   probe.ask_short(/*with_stage2=*/true, base | 1U << 12 | 3U << 10 | 3U << 2 | 2),
                                   std::uint64_t{kMairWriteBack} << 56 | 3U << 7 | address, 2U << 7 | address);
  // A table above 4 GiB with nothing in it.
  const auto low_tables = deviates("tables have to be below 4 GiB", probe.ask_long(IpaAddr(0x12'0000'0000), 0),
                                   par_of({.kind = kTranslation, .level = 1}), walk_fault(1));
  if (!early || !attributes || !level || !low_tables) return std::nullopt;
  return CpuDeviations{.early_domain_check = *early,
                       .short_attributes_missing = *attributes,
                       .stage1_level_on_walk = *level,
                       .tables_below_4_gib = *low_tables};
}

}  // namespace

std::optional<CpuDeviations> find_deviations() {
  const ScratchGuest::Frames frames;
  if (!frames.complete()) return std::nullopt;
  ScratchGuest guest(frames);
  return find_with(guest);
}

}  // namespace cadastre
