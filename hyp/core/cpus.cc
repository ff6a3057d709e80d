#include "hyp/core/cpus.hh"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <utility>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cache.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/cpu.hh"
#include "arch/armv7/image.hh"
#include "hyp/core/address_space.hh"
#include "hyp/core/console.hh"
#include "hyp/core/cross_call.hh"
#include "hyp/core/interrupts.hh"
#include "hyp/core/memory.hh"
#include "hyp/core/scheduler.hh"
#include "hyp/guest/timers.hh"
#include "hyp/guest/world_switch.hh"
#include "mm/base/check.hh"
#include "mm/base/per_cpu.hh"
#include "mm/base/spinlock.hh"
#include "platform/psci.hh"

extern "C" {
// entry.S: where a secondary CPU starts, and what it reads there.
extern const std::byte secondary_entry[];
std::uint64_t secondary_root;
std::array<void*, cadastre::kMaxCpus> secondary_stacks;
}

namespace cadastre {
namespace {

constexpr std::uint32_t kAffinityMask = 0x00ff'ffff;  // [ARMv7 B4.1.106]
constexpr std::uint64_t kSecondsToWait = 2;

PerCpu<arch::Cpu> cpus;

// A CPU that firmware has been asked to start, by its place in the DTB. It may come when nobody waits for it any more: then its
// number is another one's, and it is never used.
enum class Start : std::uint8_t { kNone, kAsked, kComing, kCame, kGivenUp };
struct Place {
  std::atomic<Start> start = Start::kNone;
  unsigned number = 0;  // of the CPU
};
std::array<Place, kMaxCpus> places;

[[nodiscard]] std::uint32_t this_affinity() {
  return arch::MPIDR::read() & kAffinityMask;
}

Result<> make_stack(unsigned place) {
  constexpr unsigned kStackOrder = 2;
  static_assert(HypAddressSpace::kStackBytes <= kPageSize << kStackOrder);
  const Result<Pfn> frames = memory.pages.alloc(kStackOrder);
  if (!frames) return std::unexpected(frames.error());
  const Result<void*> top = hyp_space.map_stack(place, address_of(*frames));
  if (!top) return std::unexpected(top.error());
  secondary_stacks[place] = *top;
  return {};
}

// The CPU at this place of the DTB becomes `number`. False, with the reason said: it does not.
bool start_cpu(unsigned place, unsigned number, const HostCpu& cpu, std::uint32_t cpu_on, PhysAddr image) {
  if (const Result<> made = make_stack(place); !made) {
    console.print("cpu {:x}: left off: no stack: {}", cpu.mpidr, to_string(made.error()));
    return false;
  }
  cpus.of(number) = {.index = number, .mpidr = cpu.mpidr};
  memory.pages.set_cpu_node(number, cpu.node);
  Place& its = places[place];
  its.number = number;
  its.start.store(Start::kAsked, std::memory_order_release);
  // Read with the caches still off.
  arch::clean_data_cache(&secondary_root, sizeof secondary_root);
  arch::clean_data_cache(&secondary_stacks, sizeof secondary_stacks);
  const PhysAddr entry = image + static_cast<std::uint64_t>(secondary_entry - __image_start);
  const std::int32_t answer =
      psci_call(PsciConduit::kSmc, cpu_on, cpu.mpidr, static_cast<std::uint32_t>(entry.value()), place);
  if (answer != 0) {
    its.start.store(Start::kGivenUp, std::memory_order_release);  // should it come all the same
    console.print("cpu {:x}: left off: PSCI error {}", cpu.mpidr, answer);
    return false;
  }
  const std::uint64_t deadline = now() + kSecondsToWait * counts_per_second();
  while (its.start.load(std::memory_order_acquire) != Start::kCame) {
    Start asked = Start::kAsked;
    if (now() > deadline && its.start.compare_exchange_strong(asked, Start::kGivenUp)) {
      console.print("cpu {:x}: left off: it does not come up", cpu.mpidr);
      return false;
    }
    spin_wait();
  }
  return true;
}

// The pages on other CPUs' lists are in the way of whoever wants a range of frames.
class Others final : public OtherCpus {
 public:
  void drain() override {
    call_on_all_cpus([](void*) { memory.pages.drain(arch::this_cpu().index); }, nullptr);
  }
  void wait() override {
    run_cross_calls();
    spin_wait();
  }
};

Others others;

}  // namespace

void init_boot_cpu(HostDescription& host) {
  const std::uint32_t mpidr = this_affinity();
  auto* const own = std::ranges::find(host.cpus, mpidr, &HostCpu::mpidr);
  if (own != host.cpus.end()) {
    std::rotate(host.cpus.begin(), own, own + 1);
  } else {
    // As Linux does: of a tree that is not about this CPU, no other is started.
    console.print("cpus: the DTB has none with this CPU's MPIDR, {:x}: the others stay off", mpidr);
    host.cpus.clear();
    CHECK(host.cpus.push_back({.mpidr = mpidr}));
  }
  cpus.of(0) = {.index = 0, .mpidr = mpidr};
  arch::set_this_cpu(cpus.of(0));
}

unsigned start_secondary_cpus(const HostDescription& host, PhysAddr image) {
  secondary_root = hyp_space.root().value();
  join_cross_calls();
  let_page_lists_drain(true);
  const auto count = static_cast<unsigned>(host.cpus.size());
  const bool can_start = host.psci.conduit == PsciConduit::kSmc && host.psci.cpu_on != 0;
  if (count > 1 && !can_start) console.print("cpus: firmware has no PSCI that HYP mode can call: the others stay off");
  unsigned started = 1;
  for (unsigned place = 1; can_start && place < count; ++place) {
    const HostCpu& cpu = host.cpus[place];
    if (cpu.kind.view() != host.cpus[0].kind.view()) {
      console.print("cpu {:x}: left off: {} beside {}", cpu.mpidr, cpu.kind.view(), host.cpus[0].kind.view());
    } else if (start_cpu(place, started, cpu, host.psci.cpu_on, image)) {
      ++started;
    }
  }
  return started;
}

void let_page_lists_drain(bool drain) {
  memory.pages.set_other_cpus(drain ? &others : nullptr);
}

extern "C" [[noreturn]] void secondary_main(unsigned place) {
  Place& its = places[place];
  Start asked = Start::kAsked;
  if (!its.start.compare_exchange_strong(asked, Start::kComing)) {
    for (;;) arch::wfi();
  }
  arch::set_this_cpu(cpus.of(its.number));
  hyp_space.activate();
  init_world_switch();
  init_cpu_interrupts();
  join_cross_calls();
  its.start.store(Start::kCame, std::memory_order_release);
  run_vcpus();
}

}  // namespace cadastre
