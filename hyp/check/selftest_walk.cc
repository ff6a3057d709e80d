// `selftest=walk`: random guests whose translations this CPU and GuestWalk both make; and HYP's own tables the same way.
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/layout.hh"
#include "hyp/check/cpu_translation.hh"
#include "hyp/check/random.hh"
#include "hyp/check/random_guest.hh"
#include "hyp/check/selftest.hh"
#include "hyp/core/address_space.hh"
#include "hyp/core/audit.hh"
#include "hyp/core/console.hh"
#include "mm/translation/guest_walk.hh"

namespace cadastre {
namespace {

constexpr unsigned kTrees = 100'000;
constexpr unsigned kAddressesOfTree = 4;
constexpr unsigned kHypAddresses = 20'000;

template <class... Arguments>
bool failed(std::string_view format, const Arguments&... arguments) {
  char reason[200];
  console.print("selftest: walk: failed: {}", format_to(reason, format, arguments...));
  return false;
}

// ---- Random guests

// How often each answer was given: a test that sees only faults shows nothing.
struct Tally {
  unsigned good = 0;
  std::array<unsigned, 4> stage1{};  // by FaultKind
  unsigned stage2 = 0;
  unsigned on_walk = 0;
  unsigned skipped = 0;  // not asked

  void add(const Comparison& comparison) {
    if (!comparison.asked) {
      ++skipped;
    } else if (comparison.walk) {
      ++good;
    } else if (const GuestFault& fault = comparison.walk.error(); fault.stage2) {
      ++(fault.on_walk ? on_walk : stage2);
    } else {
      ++stage1[static_cast<unsigned>(fault.kind)];
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

bool compare_tree(RandomGuest& guest, const CpuDeviations& cpu, Tally& tally) {
  guest.renew();
  guest.mmu().early_domain_check = cpu.early_domain_check;
  std::array<GuestVirtAddr, kAddressesOfTree> addresses;
  for (GuestVirtAddr& address : addresses) address = guest.address();
  guest.load();
  for (const GuestVirtAddr address : addresses) {
    for (const Access access : {Access::kRead, Access::kWrite}) {
      for (const Privilege privilege : {Privilege::kPrivileged, Privilege::kUser}) {
        const Question question{address, access, privilege};
        const Comparison comparison = compare_with_cpu(cpu, guest.mmu(), guest, question);
        tally.add(comparison);
        if (comparison.differs()) {
          comparison.print(guest.mmu(), question);
          return false;
        }
      }
    }
  }
  return true;
}

bool compare_guests(Random& random) {
  const std::optional<CpuDeviations> cpu = find_deviations();
  const ScratchGuest::Frames frames;
  if (!cpu || !frames.complete()) return failed("this CPU, or memory, is not as it should be");
  RandomGuest guest(frames, random);
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
  static constexpr std::array<std::uint32_t, 6> kBases{layout::kLinear, layout::kVmalloc, layout::kStacks,
                                                       layout::kKmap,   layout::kFixmap,  layout::kImage};
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

}  // namespace

bool selftest_walk(unsigned /*cpus*/, unsigned seed) {
  console.print("selftest: walk: {} trees, seed={}", kTrees, seed);
  Random random(seed);
  open_books();
  return compare_hyp(random) && compare_guests(random) && audit();
}

}  // namespace cadastre
