// What a GuestWalk costs: registers and tables as Linux has them, everything mapped by pages of 4 KiB at both stages.
#include <cstdint>
#include <string_view>

#include "arch/armv7/hcr.hh"
#include "hyp/check/bench.hh"
#include "hyp/check/bench_count.hh"
#include "hyp/check/scratch_guest.hh"
#include "hyp/guest/guest_view.hh"
#include "mm/base/check.hh"
#include "mm/translation/guest_walk.hh"

namespace cadastre {
namespace {

constexpr unsigned kWalks = 1000;

constexpr IpaAddr kTables(0x4000'0000);
constexpr std::uint32_t kFirst = 0x4000'0000;
constexpr std::uint32_t kSecond = 0x4000'4000;
constexpr std::uint32_t kThird = 0x4000'5000;
constexpr std::uint32_t kPage = 0x4000'6000;
constexpr std::uint32_t kSctlrOfLinux = 1 | sctlr::kTexRemap | sctlr::kAccessFlag;
constexpr std::uint32_t kAddress = 0x3abc;

using View = GuestView<ScratchGuest::Table>;

// What a walk's users want of it, by address and registers that the compiler knows nothing of.
[[gnu::noinline]] std::uint64_t physical_of(const GuestMmu& mmu, const View& view, GuestVirtAddr address) {
  const auto result = guest_walk(mmu, view, address, Access::kRead, Privilege::kUser);
  return result ? result->physical.aligned_down(kPageSize).value() : 0;
}
[[gnu::noinline]] std::uint64_t par_after(const GuestMmu& mmu, const View& view, GuestVirtAddr address) {
  const auto result = guest_walk(mmu, view, address, Access::kRead, Privilege::kUser);
  return result ? par_of(mmu, *result) : 0;
}

template <class Walk>
void measure_walk(std::string_view name, ScratchGuest& guest, Walk&& walk) {
  const View view(guest.stage2());
  std::uint32_t address = kAddress;  // NOLINT(misc-const-correctness): the assembler may have changed it
  asm volatile("" : "+r"(address) : "r"(&guest.mmu()) : "memory");
  std::uint64_t physical = 0;
  bench::measure(name, kWalks, [&] { physical = walk(guest.mmu(), view, GuestVirtAddr(address)); });
  CHECK((physical & kEntryAddressMask) == (guest.pool() + (kPage - kFirst)).value());
}

}  // namespace

void bench_walk() {
  const ScratchGuest::Frames frames;
  if (!frames.complete()) return;
  ScratchGuest guest(frames);
  CHECK(guest.stage2().map(kTables, guest.pool(), kPage + kPageSize - kFirst, Stage2Attributes::ram(), kLastLevel));
  guest.mmu() = {.sctlr = kSctlrOfLinux,
                 .ttbr0 = kFirst,
                 .dacr = 1,
                 .prrr = 0xff0a'81a8,
                 .nmrr = 0x40e0'40e0,
                 .hcr = arch::hcr::kGuest};
  // 0x0000_3000: AP 011, shareable, type 7 of PRRR.
  guest.put32(IpaAddr(kFirst), kSecond | 1);
  guest.put32(IpaAddr(kSecond + 3 * sizeof(std::uint32_t)), kPage | 1U << 10 | 1U << 6 | 3U << 4 | 3U << 2 | 2);
  measure_walk("GuestWalk of a small page", guest, physical_of);
  measure_walk("GuestWalk of a small page, and its memory type", guest, par_after);

  guest.mmu() = {.sctlr = kSctlrOfLinux, .ttbcr = 1U << 31, .ttbr0 = kFirst, .prrr = 0xff, .hcr = arch::hcr::kGuest};
  guest.put64(IpaAddr(kFirst), kSecond | 3);
  guest.put64(IpaAddr(kSecond), kThird | 3);
  guest.put64(IpaAddr(kThird + 3 * sizeof(Entry)),
              kPage | kAccessFlag | shareability_bits(Shareability::kInner) | 1U << 6 | 3);
  measure_walk("GuestWalk of a page of long descriptors", guest, physical_of);
}

}  // namespace cadastre
