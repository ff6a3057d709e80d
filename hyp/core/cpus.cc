#include "hyp/core/cpus.hh"

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
#include "hyp/core/power.hh"
#include "hyp/core/scheduler.hh"
#include "hyp/guest/timers.hh"
#include "hyp/guest/world_switch.hh"
#include "mm/base/per_cpu.hh"
#include "mm/base/spinlock.hh"

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
PerCpu<std::atomic<bool>> online;

[[nodiscard]] std::uint32_t this_affinity() {
  return arch::MPIDR::read() & kAffinityMask;
}

Result<> make_stack(unsigned cpu) {
  constexpr unsigned kStackOrder = 2;
  static_assert(HypAddressSpace::kStackBytes <= kPageSize << kStackOrder);
  const Result<Pfn> frames = memory.pages.alloc(kStackOrder);
  if (!frames) return std::unexpected(frames.error());
  const Result<void*> top = hyp_space.map_stack(cpu, address_of(*frames));
  if (!top) return std::unexpected(top.error());
  secondary_stacks[cpu] = *top;
  return {};
}

bool start_cpu(unsigned cpu, std::uint32_t mpidr, PhysAddr image) {
  if (const Result<> made = make_stack(cpu); !made) {
    console.print("cpu{}: no stack: {}", cpu, to_string(made.error()));
    return false;
  }
  // Read with the caches still off.
  arch::clean_data_cache(&secondary_root, sizeof secondary_root);
  arch::clean_data_cache(&secondary_stacks, sizeof secondary_stacks);
  const PhysAddr entry = image + static_cast<std::uint64_t>(secondary_entry - __image_start);
  const std::int32_t answer =
      psci_call(psci_conduit(), psci::kCpuOn, mpidr, static_cast<std::uint32_t>(entry.value()), cpu);
  if (answer != 0) {
    console.print("cpu{}: firmware does not start it: PSCI error {}", cpu, answer);
    return false;
  }
  const std::uint64_t deadline = now() + kSecondsToWait * arch::CNTFRQ::read();
  while (!online.of(cpu).load(std::memory_order_acquire)) {
    if (now() > deadline) {
      console.print("cpu{}: does not come up", cpu);
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

void init_boot_cpu(const HostDescription& host) {
  for (unsigned i = 0; i < host.cpus.size(); ++i) {
    cpus.of(i) = {.index = i, .mpidr = host.cpus[i].mpidr};
    if (host.cpus[i].mpidr == this_affinity()) arch::set_this_cpu(cpus.of(i));
  }
}

unsigned start_secondary_cpus(const HostDescription& host, PhysAddr image) {
  secondary_root = hyp_space.root().value();
  join_cross_calls();
  let_page_lists_drain(true);
  const auto count = static_cast<unsigned>(host.cpus.size());
  for (unsigned cpu = 0; cpu < count; ++cpu) {
    if (host.cpus[cpu].mpidr == this_affinity()) continue;
    if (!start_cpu(cpu, host.cpus[cpu].mpidr, image)) return cpu;
  }
  return count;
}

void let_page_lists_drain(bool drain) {
  memory.pages.set_other_cpus(drain ? &others : nullptr);
}

extern "C" [[noreturn]] void secondary_main(unsigned cpu) {
  arch::set_this_cpu(cpus.of(cpu));
  hyp_space.activate();
  init_world_switch();
  init_cpu_interrupts();
  join_cross_calls();
  online.of(cpu).store(true, std::memory_order_release);
  run_vcpus();
}

}  // namespace cadastre
