// `translator [tries=N] [table]`, with two CPUs: the first fetches instructions from a device, which stage 2 does not let it
// execute; the second meanwhile makes of the section that leads there one of a domain that nobody may use, and one that may be
// executed again. With `table` it makes of it a table that lies in the device. A hypervisor that has the CPU find out where the
// fetch went walks what the second CPU makes of it.
#include <atomic>

#include "guest/common/exceptions.hh"
#include "guest/common/machine.hh"
#include "guest/common/memory.hh"
#include "guest/common/print.hh"
#include "guest/common/second_cpu.hh"
#include "guest/hostile/role.hh"

namespace cadastre::guest {
namespace {

constexpr std::uint32_t kTable = 0b01;
constexpr std::uint32_t kDomain1 = 1U << 5;  // DACR is client of domain 0 alone

std::atomic<bool> done = false;

void change_tables() {
  const std::uint32_t device = machine.cpu_interface;
  volatile std::uint32_t& entry = section_entry(device);
  const std::uint32_t good = entry;
  const std::uint32_t bad = has_word("table") ? (device & ~0x3ffU) | kTable : good | kDomain1;
  while (!done.load(std::memory_order_relaxed)) {
    entry = bad;
    invalidate_translations();
    entry = good;
    invalidate_translations();
  }
}

}  // namespace

void translate() {
  map_section(machine.cpu_interface, Kind::kExecutableDevice);
  invalidate_translations();
  if (!run_on_second_cpu(change_tables)) fail("it has no second CPU");
  const std::uint32_t tries = number_of("tries", 100'000);
  for (std::uint32_t i = 0; i < tries; ++i) {
    expect_exception();
    execute(machine.cpu_interface);
    if (take_exception().exception != Exception::kPrefetchAbort) fail("a device is executed");
  }
  done = true;
  say("could not execute a device ", std::uint64_t{tries}, " times");
}

}  // namespace cadastre::guest
