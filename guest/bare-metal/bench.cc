#include "guest/bare-metal/bench.hh"

#include <algorithm>
#include <string_view>

#include "guest/common/cpu.hh"
#include "guest/common/exceptions.hh"
#include "guest/common/machine.hh"
#include "guest/common/memory.hh"
#include "guest/common/print.hh"
#include "guest/common/psci.hh"

namespace cadastre::guest {
namespace {

constexpr std::uint32_t kBlock = 0x20'0000;
constexpr unsigned kIterations = 1000;
// The machine's own interrupts end a few rounds late; the best one has had none.
constexpr unsigned kRounds = 5;

// `instruction`, kIterations times, between two readings of the count: its ticks. r0 and r2 are what it needs to find there;
// they are set again each time, and a call's answer may be in r0 to r3 [SMCCC 2.6].
#define TICKS_OF(instruction, first, second)                                                                 \
  [&] {                                                                                                      \
    std::uint32_t left = kIterations; /* NOLINT(misc-const-correctness): the loop counts it down */          \
    const std::uint64_t start = timer_count();                                                               \
    asm volatile("1: mov r0, %[a]\n\tmov r2, %[b]\n\t" instruction "\n\tsubs %[left], %[left], #1\n\tbne 1b" \
                 : [left] "+r"(left)                                                                         \
                 : [a] "r"(first), [b] "r"(second)                                                           \
                 : "r0", "r1", "r2", "r3", "cc", "memory");                                                  \
    return timer_count() - start;                                                                            \
  }

void report(std::string_view name, std::uint64_t ticks, std::uint32_t times) {
  constexpr std::uint64_t kNanoseconds = 1'000'000'000;
  const std::uint64_t each = (ticks * kNanoseconds / timer_frequency() + times / 2) / times;
  say("bench: ", name, ": ", each, " ns");
}

template <class Ticks>
std::uint64_t best_of_rounds(Ticks ticks) {
  std::uint64_t best = ticks();
  for (unsigned round = 1; round < kRounds; ++round) best = std::min(best, ticks());
  return best;
}

template <class Ticks, class EmptyTicks>
void measure_exit(std::string_view name, Ticks ticks, EmptyTicks empty) {
  report(name, best_of_rounds(ticks) - best_of_rounds(empty), kIterations);
}

// Writes a word to each `step` bytes of [first, end).
std::uint64_t touch(std::uint32_t first, std::uint32_t end, std::uint32_t step) {
  const std::uint64_t start = timer_count();
  asm volatile("1: str %[at], [%[at]]\n\tadd %[at], %[at], %[step]\n\tcmp %[at], %[end]\n\tblo 1b"
               : [at] "+r"(first)
               : [end] "r"(end), [step] "r"(step)
               : "cc", "memory");
  return timer_count() - start;
}

// The first touch of RAM, which can be had only once: the best of some groups. What the second touch of the same costs is
// what the touching itself does.
void measure_faults(std::string_view name, std::uint32_t first, std::uint32_t end, std::uint32_t step) {
  constexpr std::uint32_t kGroups = 4;
  const std::uint32_t group = (end - first) / step / kGroups;
  std::uint64_t best = ~0ULL;
  for (std::uint32_t i = 0; i < kGroups; ++i) {
    const std::uint32_t from = first + i * group * step;
    const std::uint32_t to = from + group * step;
    const std::uint64_t faults = touch(from, to, step);
    best = std::min(best, faults - touch(from, to, step));
  }
  report(name, best, group);
}

// From the moment when the timer's interrupt is due to the handler's first instructions. Deadlines differ in where they fall
// among those that are executed meanwhile.
void measure_timer() {
  constexpr std::uint32_t kTimes = 256;
  start_gic();
  enable_interrupt(machine.timer_interrupt);
  enable_interrupts();
  std::uint64_t ticks = 0;
  for (std::uint32_t i = 0; i < kTimes; ++i) {
    const std::uint32_t before = timer_interrupts();
    start_timer(1000 + i);
    while (timer_interrupts() == before) {
    }
    ticks += timer_delay();
  }
  disable_interrupts();
  report("timer interrupt to its handler", ticks, kTimes);
}

}  // namespace

void run_benchmarks(std::uint32_t first, std::uint32_t end) {
  const std::uint32_t type = machine.distributor + 4;
  const std::uint32_t set_active = machine.distributor + 0x304;  // of interrupts 32 to 63, and one of them
  constexpr std::uint32_t kSomeInterrupt = 1U << 8;
  measure_timer();
  const auto empty = TICKS_OF("", psci::kVersion, type);
  measure_exit("hypercall, PSCI_VERSION", TICKS_OF("hvc #0", psci::kVersion, type), empty);
  measure_exit("hypercall, not supported", TICKS_OF("hvc #0", psci::kNoFunction, type), empty);
  measure_exit("trapped read, GICD_TYPER", TICKS_OF("ldr r0, [r2]", psci::kVersion, type), empty);
  measure_exit("trapped write, GICD_ISACTIVER", TICKS_OF("str r0, [r2]", kSomeInterrupt, set_active), empty);

  const std::uint32_t pages = end & ~(kBlock - 1);
  measure_faults("fault, block of 2 MiB", first, pages, kBlock);
  // The first of the pages needs a table as well.
  *words_at(pages) = 0;
  measure_faults("fault, page of 4 KiB", pages + kPage, end, kPage);
}

}  // namespace cadastre::guest
