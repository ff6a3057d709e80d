#include <array>
#include <atomic>
#include <random>
#include <vector>

#include "mm/translation/vmid.hh"
#include "tests/unit/cpu_threads.hh"
#include "tests/unit/random_runs.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

TEST_CASE("CPUs that enter guests at the same time never share a number") {
  constexpr unsigned kCpus = 4;
  constexpr std::size_t kGuests = 600;
  VmidAllocator allocator;
  std::vector<Vmid> guests(kGuests);
  // Guest + 1 that holds a number on some CPU.
  std::array<std::atomic<std::uint32_t>, VmidAllocator::kNumbers> holders{};
  std::atomic<unsigned> wrong = 0;
  const std::uint64_t operations = random_operations(200'000) / kCpus;
  run_on_cpus(kCpus, [&](unsigned cpu) {
    std::mt19937_64 random(test_seed() + cpu);
    unsigned held = 0;
    for (std::uint64_t i = 0; i < operations; ++i) {
      // A CPU owns guests of its own, so a number that two CPUs hold is one too many.
      const std::size_t guest = random() % (kGuests / kCpus) * kCpus + cpu;
      if (held != 0) holders[held].store(0);
      held = allocator.activate(cpu, guests[guest]).number;
      if (holders[held].exchange(static_cast<std::uint32_t>(guest) + 1) != 0) ++wrong;
    }
    if (held != 0) holders[held].store(0);
  });
  CHECK_EQ(wrong, 0);
}

}  // namespace
}  // namespace cadastre
