#include "hyp/check/walk_check.hh"

#include <algorithm>
#include <array>
#include <atomic>
#include <string_view>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "hyp/config/plan.hh"
#include "hyp/core/console.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/guest_ram.hh"
#include "hyp/guest/registers.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"
#include "mm/guest/guest_copy.hh"
#include "mm/translation/guest_visit.hh"

namespace cadastre {

WalkCheck walk_check;

namespace {

// Of an address space, in one time slice: about as many descriptors are looked at, and as many addresses asked for.
constexpr unsigned kDescriptors = 256;
constexpr unsigned kAddresses = 64;
// Another vCPU may change the tables between the two answers.
constexpr unsigned kAttempts = 4;

// A guest's. Several CPUs may run its vCPUs.
struct Counts {
  std::atomic<std::uint32_t> user = 0;        // addresses that PL0 may read
  std::atomic<std::uint32_t> privileged = 0;  // that only PL1 may
  std::atomic<std::uint32_t> faults = 0;      // that nobody may
  std::atomic<std::uint32_t> differ = 0;
  std::atomic<std::uint64_t> next = 0;  // where in the address space to go on
};
std::array<Counts, kMaxGuests> counts;

[[nodiscard]] Counts& counts_of(const Vm& vm) {
  return counts[vm.id() - 1U];
}

// The addresses of one time slice.
class Sample {
 public:
  void add(GuestVirtAddr address) {
    if (count_ < addresses_.size()) addresses_[count_++] = address;
  }
  [[nodiscard]] bool full() const { return count_ == addresses_.size(); }
  [[nodiscard]] const GuestVirtAddr* begin() const { return addresses_.data(); }
  [[nodiscard]] const GuestVirtAddr* end() const { return addresses_.data() + count_; }

 private:
  std::array<GuestVirtAddr, kAddresses> addresses_{};
  unsigned count_ = 0;
};

// An address of the leaf that `address` is in.
[[nodiscard]] GuestVirtAddr somewhere_in(GuestVirtAddr address, const Stage1Leaf& leaf, std::uint32_t salt) {
  constexpr std::uint32_t kSpread = 0x9e3779b1;  // 2^32 / golden ratio
  const auto mask = static_cast<std::uint32_t>((std::uint64_t{1} << leaf.shift) - 1);
  return GuestVirtAddr((address.value() & ~mask) | ((salt * kSpread) & mask));
}

[[nodiscard]] bool agrees(const CpuDeviations& cpu, const GuestMmu& mmu, GuestMemory& guest_memory,
                          const Question& question) {
  for (unsigned attempt = 1;; ++attempt) {
    const Comparison result =
        guest_memory.with_view([&](const auto& view) { return compare_with_cpu(cpu, mmu, view, question); });
    if (!result.differs()) return true;
    if (attempt == kAttempts) {
      result.print(mmu, question);
      return false;
    }
  }
}

// Whether all four operations agree.
[[nodiscard]] bool all_agree(const CpuDeviations& cpu, const GuestMmu& mmu, GuestMemory& guest_memory,
                             GuestVirtAddr address) {
  for (const Access access : {Access::kRead, Access::kWrite}) {
    for (const Privilege privilege : {Privilege::kPrivileged, Privilege::kUser}) {
      if (!agrees(cpu, mmu, guest_memory, {address, access, privilege})) return false;
    }
  }
  return true;
}

void count(Counts& of_guest, const GuestMmu& mmu, GuestMemory& guest_memory, GuestVirtAddr address) {
  const auto leaf =
      guest_memory.with_view([&](const auto& view) { return stage1_walk(mmu, view, address, Access::kRead); });
  if (!leaf) {
    ++of_guest.faults;
  } else {
    ++(leaf->allow(Privilege::kUser, Access::kRead) ? of_guest.user : of_guest.privileged);
  }
}

}  // namespace

void WalkCheck::enable(const CpuDeviations& cpu, std::optional<GuestVirtAddr> address) {
  cpu_ = cpu;
  address_ = address;
  enabled_ = true;
}

void WalkCheck::sample(Vcpu& vcpu) {
  GuestMmu mmu = loaded_mmu();
  mmu.early_domain_check = cpu_.early_domain_check;
  GuestMemory& guest_memory = vcpu.vm.memory();
  Counts& of_guest = counts_of(vcpu.vm);

  Sample addresses;
  constexpr unsigned kSp = 13;
  constexpr unsigned kLr = 14;
  addresses.add(GuestVirtAddr(vcpu.frame.pc));
  for (const unsigned number : {kSp, kLr}) addresses.add(GuestVirtAddr(guest_register(vcpu, number)));
  std::uint64_t next = of_guest.next.load();
  guest_memory.with_view([&](const auto& view) {
    for (unsigned left = kDescriptors; left != 0 && !addresses.full(); --left) {
      next = visit_stage1(mmu, view, next, 1, [&](GuestVirtAddr address, const Stage1Leaf& leaf) {
        addresses.add(somewhere_in(address, leaf, vcpu.frame.pc));
      });
      if (next == kGuestVirtualEnd) next = 0;
    }
  });
  of_guest.next = next;

  // A client of every domain while the CPU is asked: Linux shuts itself out of its users' domain, and QEMU 7.2 cannot put a
  // domain fault into PAR (cpu_translation.hh).
  constexpr std::uint32_t kAllClients = 0x5555'5555;
  const std::uint32_t dacr = mmu.dacr;
  mmu.dacr = kAllClients;
  arch::DACR::write(kAllClients);
  // The guest may have changed a table and not told its TLB yet; then either answer would do [ARMv7 B3.10.1].
  arch::TLBIALL::write(0);
  arch::dsb();
  arch::isb();
  const std::uint64_t par = arch::PAR::read();
  for (const GuestVirtAddr address : addresses) {
    if (all_agree(cpu_, mmu, guest_memory, address)) {
      count(of_guest, mmu, guest_memory, address);
    } else if (++of_guest.differ == 1) {
      console.print("walk: {}: differs, see above", vcpu.vm.name());
    }
  }
  arch::PAR::write(par);
  arch::DACR::write(dacr);
  arch::isb();
}

bool WalkCheck::finish(Vm& vm) {
  const Counts& of_guest = counts_of(vm);
  const std::uint32_t user = of_guest.user;
  const std::uint32_t privileged = of_guest.privileged;
  console.print("walk: {} addresses of {} agree, {} differ; {} user's, {} kernel's, {} not mapped",
                user + privileged + of_guest.faults, vm.name(), of_guest.differ.load(), user, privileged,
                of_guest.faults.load());
  if (address_) {
    const GuestMmu mmu = saved_mmu(vm.vcpu(0).system);
    std::array<char, 48> text{};
    vm.memory().with_ram(
        mmu, Populate::kNo, [] {},
        [&](auto& ram) {
          const auto found = guest_walk(mmu, ram, *address_, Access::kRead, Privilege::kPrivileged);
          const auto bytes = copy_from_guest(mmu, ram, *address_, std::as_writable_bytes(std::span(text)),
                                             Access::kRead, Privilege::kPrivileged);
          if (!found || !bytes) return console.print("walk: {}: {} is not mapped", vm.name(), *address_);
          const auto* end = std::ranges::find_if(text, [](char c) { return c < ' ' || c > '~'; });
          console.print("walk: {}: {} is at IPA {}, physical {}: {}", vm.name(), *address_, found->stage1.ipa,
                        found->physical, std::string_view(text.data(), static_cast<std::size_t>(end - text.data())));
        });
  }
  const bool good = of_guest.differ == 0;
  counts_of(vm).next = 0;
  return good;
}

}  // namespace cadastre
