#include "mm/base/spinlock.hh"

#include "tests/unit/cpu_threads.hh"
#include "tests/unit/random_runs.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

TEST_CASE("spinlock: what is done under it is done by one CPU at a time") {
  constexpr unsigned kCpus = 4;
  Spinlock lock;
  std::uint64_t count = 0;
  const std::uint64_t operations = random_operations(100'000) / kCpus;
  run_on_cpus(kCpus, [&](unsigned) {
    for (std::uint64_t i = 0; i < operations; ++i) {
      const SpinlockGuard guard(lock);
      ++count;
    }
  });
  CHECK_EQ(count, operations * kCpus);
}

}  // namespace
}  // namespace cadastre
