// `selftest=walk`: random guests whose translations this CPU and GuestWalk both make; and HYP's own tables the same way.
#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <string_view>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/guest_state.hh"
#include "arch/armv7/hcr.hh"
#include "arch/armv7/layout.hh"
#include "hyp/address_space.hh"
#include "hyp/audit.hh"
#include "hyp/console.hh"
#include "hyp/cpu_translation.hh"
#include "hyp/memory.hh"
#include "hyp/random.hh"
#include "hyp/random_guest.hh"
#include "hyp/selftest.hh"
#include "mm/guest_walk.hh"
#include "mm/memory_type.hh"

namespace cadastre {
namespace {

constexpr unsigned kTrees = 100'000;
constexpr unsigned kAddressesOfTree = 4;
constexpr unsigned kHypAddresses = 20'000;

constexpr unsigned kRootOrder = std::countr_zero(RandomGuest::Table::kRootBytes) - kPageShift;

template <class... Arguments>
bool failed(std::string_view format, const Arguments&... arguments) {
  char reason[200];
  console.print("selftest: walk: failed: {}", format_to(reason, format, arguments...));
  return false;
}

// ---- What this CPU does otherwise than the architecture has it: asked with one example each.

// One address behind one or two descriptors, in the pool.
class Probe {
 public:
  static constexpr std::uint32_t kSecondTable = 0x8000;

  Probe(RandomGuest& guest, PhysAddr pool) : guest_(guest), pool_(static_cast<std::uint32_t>(pool.value())) {}

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

  RandomGuest& guest_;
  const std::uint32_t pool_;  // low memory, below 4 GiB
};

// `architectural` or `other`; anything else is an error.
std::optional<bool> deviates(std::string_view what, std::uint64_t par, std::uint64_t architectural,
                             std::uint64_t other) {
  if (same_par(par, architectural)) return false;
  if (same_par(par, other)) {
    console.print("selftest: walk: this CPU deviates: {}: PAR {:x} instead of {:x}", what, par, architectural);
    return true;
  }
  failed("{}: PAR {:x}, neither {:x} nor {:x}", what, par, architectural, other);
  return std::nullopt;
}

std::optional<CpuDeviations> find_deviations(RandomGuest& guest, PhysAddr pool) {
  using enum FaultKind;
  Probe probe(guest, pool);
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

// ---- Random guests

struct Trace {
  std::array<WalkStep, 4> steps{};
  unsigned count = 0;
  void operator()(const WalkStep& step) {
    if (count < steps.size()) steps[count++] = step;
  }
};

// How often each answer was given: a test that sees only faults shows nothing.
struct Tally {
  unsigned good = 0;
  std::array<unsigned, 4> stage1{};  // by FaultKind
  unsigned stage2 = 0;
  unsigned on_walk = 0;
  unsigned skipped = 0;  // not asked

  void add(const WalkResult<GuestTranslation>& result) {
    if (result) {
      ++good;
    } else if (result.error().stage2) {
      ++(result.error().on_walk ? on_walk : stage2);
    } else {
      ++stage1[static_cast<unsigned>(result.error().kind)];
    }
  }
  [[nodiscard]] unsigned answers() const {
    return good + stage1[0] + stage1[1] + stage1[2] + stage1[3] + stage2 + on_walk;
  }
  [[nodiscard]] bool is_varied() const {
    const unsigned enough = answers() / 200;
    for (const unsigned count : stage1) {
      if (count < enough) return false;
    }
    return good > answers() / 10 && stage2 > enough && on_walk > enough && skipped < answers();
  }
};

struct Question {
  GuestVirtAddr address;
  Access access;
  Privilege privilege;
};

void report(const GuestMmu& mmu, const Question& question, const Trace& trace, std::uint64_t walk, std::uint64_t cpu) {
  console.print("selftest: walk: {} by PL{} at {}: GuestWalk's PAR {:x}, the CPU's {:x}",
                question.access == Access::kWrite ? "write" : "read", static_cast<unsigned>(question.privilege),
                question.address, walk, cpu);
  console.print("selftest: walk: SCTLR {:x} TTBCR {:x} TTBR0 {:x} TTBR1 {:x} DACR {:x} PRRR {:x} NMRR {:x} HCR {:x}",
                mmu.sctlr, mmu.ttbcr, mmu.ttbr0, mmu.ttbr1, mmu.dacr, mmu.prrr, mmu.nmrr, mmu.hcr);
  for (unsigned i = 0; i < trace.count; ++i) {
    const WalkStep& step = trace.steps[i];
    console.print("selftest: walk: level {} at {} ({}): {:x}", step.level, step.address, step.physical, step.entry);
  }
}

// Whether the CPU can say something about this walk.
bool is_askable(const WalkResult<GuestTranslation>& result, const Trace& trace, const CpuDeviations& cpu) {
  if (!result && result.error().kind == FaultKind::kExternalOnWalk) return false;
  if (!cpu.tables_below_4_gib) return true;
  const auto is_high = [](IpaAddr ipa) { return ipa.value() >> 32 != 0; };
  for (unsigned i = 0; i < trace.count; ++i) {
    if (is_high(trace.steps[i].address)) return false;
  }
  return result || !result.error().on_walk || !is_high(result.error().ipa);
}

bool compare(RandomGuest& guest, const CpuDeviations& cpu, const Question& question, Tally& tally) {
  Trace trace;
  const auto result = guest_walk(guest.mmu(), guest, question.address, question.access, question.privilege, trace);
  if (!is_askable(result, trace, cpu)) {
    ++tally.skipped;
    return true;
  }
  tally.add(result);
  const std::uint64_t expected = expected_par(cpu, guest.mmu(), result);
  const std::uint64_t par = ask_cpu(question.address, question.access, question.privilege);
  if (same_par(expected, par)) return true;
  report(guest.mmu(), question, trace, expected, par);
  return false;
}

bool compare_tree(RandomGuest& guest, const CpuDeviations& cpu, Tally& tally) {
  guest.renew();
  guest.mmu().early_domain_check = cpu.early_domain_check;
  std::array<GuestVirtAddr, kAddressesOfTree> addresses;
  for (GuestVirtAddr& address : addresses) address = guest.address();
  guest.load();
  for (const GuestVirtAddr address : addresses) {
    for (const Access access : {Access::kRead, Access::kWrite}) {
      for (const Privilege privilege : {Privilege::kPrivileged, Privilege::kUser}) {
        if (!compare(guest, cpu, {address, access, privilege}, tally)) return false;
      }
    }
  }
  return true;
}

bool compare_guests(RandomGuest& guest, PhysAddr pool) {
  const std::optional<CpuDeviations> cpu = find_deviations(guest, pool);
  if (!cpu) return false;
  Tally tally;
  for (unsigned tree = 0; tree < kTrees; ++tree) {
    if (!compare_tree(guest, *cpu, tally)) return failed("tree {}", tree);
  }
  console.print(
      "selftest: walk: {} translate; faults: {} translation, {} access flag, {} domain, {} permission, "
      "{} stage 2, {} stage 2 on the walk; {} not asked",
      tally.good, tally.stage1[0], tally.stage1[1], tally.stage1[2], tally.stage1[3], tally.stage2, tally.on_walk,
      tally.skipped);
  if (!tally.is_varied()) return failed("the trees are not varied enough");
  console.print("selftest: walk: ok {} trees, {} translations, 0 differ", kTrees, tally.answers());
  return true;
}

// ---- HYP's own tables. One stage, so PAR.SH is the descriptor's, which for Device memory means outer shareable whatever it
// is [ARMv7 B3.8.3].

std::uint64_t hyp_par(HypVirtAddr address, bool writes) {
  writes ? arch::ATS1HW::write(address.value()) : arch::ATS1HR::write(address.value());
  arch::isb();
  return arch::PAR::read();
}

std::uint64_t expected_hyp_par(HypVirtAddr address, bool writes) {
  const HypAddressSpace::Lookup found = hyp_space.look_up(address);
  const auto level = static_cast<std::uint8_t>(found.level);
  if (!found.mapping) return par_of({.kind = FaultKind::kTranslation, .level = level});
  const HypAttributes attributes = found.mapping->attributes;
  if (writes && !attributes.writable()) return par_of({.kind = FaultKind::kPermission, .level = level});
  const auto mair = static_cast<std::uint8_t>(kHmair0 >> (8 * static_cast<unsigned>(attributes.memory())));
  return std::uint64_t{mair} << 56 | (found.mapping->address.value() & kEntryAddressMask) | 1U << 11 |
         (attributes.bits() & kShareabilityMask) >> kShareabilityShift << 7;
}

bool compare_hyp(Random& random) {
  // Anywhere, and where there is something that is smaller than a GiB.
  static constexpr std::array<std::uint32_t, 6> kBases{layout::kLinear, layout::kVmalloc,   layout::kStacks,
                                                       layout::kKmap,   layout::kFixmap, layout::kImage};
  unsigned mapped = 0;
  for (unsigned i = 0; i < kHypAddresses; ++i) {
    const std::uint32_t at =
        random.once_in(2) ? random.next() : kBases[random.below(kBases.size())] + random.below(1U << 20);
    const HypVirtAddr address(at);
    for (const bool writes : {false, true}) {
      const std::uint64_t expected = expected_hyp_par(address, writes);
      const std::uint64_t par = hyp_par(address, writes);
      if (!same_par(expected, par)) {
        return failed("HYP's own {} of {}: PAR {:x} by the tables, {:x} by the CPU", writes ? "write" : "read", address,
                      expected, par);
      }
      if ((par & 1) == 0) ++mapped;
    }
  }
  console.print("selftest: walk: ok HYP's own tables, {} addresses, {} of them mapped", kHypAddresses, mapped / 2);
  return mapped > kHypAddresses / 4;
}

// Root of a stage 2 and pool: everything that the test needs of memory.
struct Frames {
  Result<Pfn> root = memory.pages.alloc(kRootOrder, kZero);
  Result<Pfn> pool = memory.pages.alloc(kPageblockOrder, kZero);
  Frames() = default;
  Frames(const Frames&) = delete;
  Frames& operator=(const Frames&) = delete;
  ~Frames() {
    if (root) memory.pages.free(*root, kRootOrder);
    if (pool) memory.pages.free(*pool, kPageblockOrder);
  }
};

// As no guest has been here.
void restore_registers() {
  arch::HCR::write(arch::hcr::kGuest);
  arch::SystemRegisters{}.restore();
  arch::VTTBR::write(0);
  arch::isb();
  arch::TLBIALLNSNH::write(0);
  arch::dsb();
}

bool compare_random_guests(Random& random) {
  const Frames frames;
  if (!frames.root || !frames.pool) return failed("no memory");
  static std::optional<RandomGuest> guest;  // the stack is small
  guest.emplace(random, address_of(*frames.root), address_of(*frames.pool));
  const bool good = compare_guests(*guest, address_of(*frames.pool));
  guest->clear();
  guest.reset();
  restore_registers();
  return good;
}

}  // namespace

bool selftest_walk(unsigned /*cpus*/, unsigned seed) {
  console.print("selftest: walk: {} trees, seed={}", kTrees, seed);
  Random random(seed);
  open_books();
  return compare_hyp(random) && compare_random_guests(random) && audit();
}

}  // namespace cadastre
