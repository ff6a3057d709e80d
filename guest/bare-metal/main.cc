// A small guest kernel that uses what a machine has, and reports: its own MMU and caches, each page of its
// RAM, the timer's and the UART's interrupts, what must abort, PSCI.
//
// Words on its command line: `reset` resets the machine instead of powering it off, `fail` reports a failure,
// `hang` never ends. `bench` measures what exits cost (bench.hh), and checks nothing else.
#include <array>
#include <cstdint>

#include "guest/bare-metal/accesses.hh"
#include "guest/bare-metal/bench.hh"
#include "guest/common/cpu.hh"
#include "guest/common/exceptions.hh"
#include "guest/common/guest.hh"
#include "guest/common/machine.hh"
#include "guest/common/memory.hh"
#include "guest/common/print.hh"

extern "C" {
extern const char image_start;
extern const char image_end;
}

namespace cadastre::guest {
namespace {

// Where this machine has nothing: between its virtio slots and its RAM.
constexpr std::uint32_t kHole = 0x0b00'0000;
// Virtual addresses that neither RAM nor a device has.
constexpr std::uint32_t kWindow = 0x1000'0000;

// This kernel's own memory, and the DTB.
bool in_use(std::uint32_t page) {
  const bool image =
      page >= reinterpret_cast<std::uint32_t>(&image_start) && page < reinterpret_cast<std::uint32_t>(&image_end);
  return image || (page + kPage > machine.dtb_start && page < machine.dtb_end);
}

template <class Function>
void for_each_free_page(Function function) {
  // The last page of all would wrap a 32-bit count around.
  for (std::uint64_t page = machine.ram_base; page < ram_end(); page += kPage) {
    if (!in_use(static_cast<std::uint32_t>(page))) function(static_cast<std::uint32_t>(page));
  }
}

// Each page is touched, and holds what was written only after all others were written too.
void check_ram() {
  const auto pattern = [](std::uint32_t page) { return page ^ 0x5a5a'5a5aU; };
  // Below the image a boot loader may have left its code.
  const auto image = reinterpret_cast<std::uint32_t>(&image_start);
  std::uint32_t pages = 0;
  for_each_free_page([&](std::uint32_t page) {
    volatile std::uint32_t* words = words_at(page);
    if (page >= image && (words[0] | words[kWordsPerPage / 2] | words[kWordsPerPage - 1]) != 0) {
      fail("RAM at ", Hex{page}, " is not zero: something of somebody else's is left in it");
    }
    words[0] = pattern(page);
    words[kWordsPerPage - 1] = ~pattern(page);
    ++pages;
  });
  for_each_free_page([&](std::uint32_t page) {
    volatile std::uint32_t* words = words_at(page);
    if (words[0] != pattern(page) || words[kWordsPerPage - 1] != ~pattern(page)) {
      fail("RAM at ", Hex{page}, " does not hold what was written");
    }
  });
  say("wrote and read back ", std::uint64_t{pages}, " pages");
}

void expect_data_abort(std::string_view what, std::uint32_t address, std::uint32_t status) {
  const Caught got = take_exception();
  if (got.exception == Exception::kNone) fail(what, " at ", Hex{address}, " does not abort");
  if (got.exception != Exception::kDataAbort) fail(what, " at ", Hex{address}, " is no data abort");
  const bool external = status == kSynchronousExternal && got.status == kAsynchronousExternal;
  if (got.status != status && !external) {
    fail(what, " at ", Hex{address}, " aborts with status ", Hex{got.status}, ", not ", Hex{status});
  }
  if (!external && got.address != address) {
    fail(what, " at ", Hex{address}, " aborts with DFAR ", Hex{got.address});
  }
}

// Small pages in the window, in the opposite order of the RAM they map, read through it what was written
// beside it.
void check_small_pages() {
  constexpr std::uint32_t kPages = 16;
  constexpr std::uint32_t kRun = kPages * kPage;
  // The highest run of pages that is free.
  auto run = static_cast<std::uint32_t>(ram_end() - kRun);
  while (run + kRun > machine.dtb_start && run < machine.dtb_end) run -= kRun;

  for (std::uint32_t i = 0; i < kPages; ++i) {
    map_page(kWindow + i * kPage, run + (kPages - 1 - i) * kPage, Kind::kData);
  }
  for (std::uint32_t i = 0; i < kPages; ++i) words_at(kWindow + i * kPage)[1] = i;
  for (std::uint32_t i = 0; i < kPages; ++i) {
    if (words_at(run + (kPages - 1 - i) * kPage)[1] != i) fail("a small page maps something else");
  }

  map_page(kWindow, run, Kind::kConstant);
  invalidate_translation(kWindow);
  expect_exception();
  *words_at(kWindow) = 1;
  expect_data_abort("a write to a read-only page", kWindow, kPagePermission);

  unmap_page(kWindow);
  expect_exception();
  (void)*words_at(kWindow);
  expect_data_abort("a read of an unmapped page", kWindow, kPageTranslation);

  expect_exception();
  (void)*words_at(kWindow + kSection);
  expect_data_abort("a read of an unmapped section", kWindow + kSection, kSectionTranslation);
  say("small pages and sections translate, protect and fault");
}

void check_nothing_behind(std::uint32_t address) {
  map_section(address, Kind::kDevice);
  expect_exception();
  (void)*words_at(address);
  expect_data_abort("a read with nothing behind it", address, kSynchronousExternal);
  expect_exception();
  *words_at(address) = 1;
  expect_data_abort("a write with nothing behind it", address, kSynchronousExternal);
}

void check_aborts() {
  check_nothing_behind(kHole);
  if ((ram_end() & (kSection - 1)) == 0 && ram_end() >> 32 == 0) {
    check_nothing_behind(static_cast<std::uint32_t>(ram_end()));
  }
  for (const auto read : {read_hcr, read_unallocated}) {
    expect_exception();
    read();
    if (take_exception().exception != Exception::kUndefined) fail("a register that is not for guests can be read");
  }
  say("addresses and registers that are not there abort and are undefined");
}

// Instructions that access several of a device's registers, or change their base, do what they do to RAM; an LDM whose
// second register has nothing behind it leaves its base alone.
void check_device_accesses() {
  const std::uint32_t registers = priorities_of(64);
  const std::array<std::uint32_t, 8> in = {0x08101820,  0x28303840,  0x48505860,  0x68707880,
                                           0x8890'98a0, 0xa8b0'b8c0, 0xc8d0'd8e0, 0xe8f0'f810};
  const std::array<std::uint32_t, 23> expected = {
      in[0], in[1], in[2], in[3], in[4], in[5], in[7], in[6],  // as one block
      in[2], in[3], in[2], 0x08,                               // LDRD, post-indexed LDR, LDRSB
      in[0], in[1], 8,     in[0], in[1], 0,                    // by stack pointer, into the link register
      in[0], 0,     in[1], 0,     in[2],                       // in a conditional block
  };
  for (const auto access : {arm_accesses, thumb_accesses}) {
    std::array<std::uint32_t, expected.size()> out{};
    access(registers, in.data(), out.data());
    for (std::size_t i = 0; i < out.size(); ++i) {
      if (out[i] != expected[i]) {
        fail("word ", std::uint64_t{i}, " read of a device is ", Hex{out[i]}, " instead of ", Hex{expected[i]});
      }
    }
    access(registers, std::array<std::uint32_t, 8>{}.data(), out.data());
  }
  const std::uint32_t last = machine.uart + kPage - 4;
  expect_exception();
  if (load_past_end(last) != last) fail("an LDM that aborts changes its base");
  expect_data_abort("an LDM with nothing behind its second register", last + 4, kSynchronousExternal);
  say("devices take LDM and STM, LDRD and STRD, and write-back, in ARM and Thumb state");
}

// As a kernel does before it turns its caches off, or goes to sleep.
void check_cache_maintenance() {
  constexpr std::uint32_t kRounds = 3;
  std::uint32_t operations = 0;
  for (std::uint32_t round = 0; round < kRounds; ++round) operations += clean_caches();
  if (operations == 0) fail("there is no cache");
  say("cleaned all caches by set and way ", std::uint64_t{kRounds}, " times");
}

// Waits until `done`, at most 20 s of the machine's time.
template <class Function>
void wait_for(std::string_view what, Function done) {
  const std::uint64_t start = timer_count();
  while (!done()) {
    if (timer_count() - start > 20ULL * timer_frequency()) fail("no ", what, " in 20 s");
  }
}

void check_timer() {
  constexpr std::uint32_t kTicks = 5;
  const std::uint32_t period = timer_frequency() / 100;
  const std::uint64_t start = timer_count();
  // The first one is waited for by looking, so that a timer that is dead is told; the others asleep.
  start_timer(period);
  wait_for("timer interrupt", [] { return timer_interrupts() != 0; });
  for (std::uint32_t tick = 2; tick <= kTicks; ++tick) {
    start_timer(period);
    disable_interrupts();
    while (timer_interrupts() < tick) {
      wait_for_interrupt();  // wakes up with the interrupt pending, which is taken in between
      enable_interrupts();
      isb();
      disable_interrupts();
    }
    enable_interrupts();
  }
  const std::uint64_t elapsed = timer_count() - start;
  if (elapsed < std::uint64_t{kTicks} * period) fail("timer interrupts came early");
  if (timer_interrupts() != kTicks) fail(std::uint64_t{timer_interrupts()}, " timer interrupts instead of 5");
  say("timer interrupts: ", std::uint64_t{kTicks}, " in ", elapsed * 1000 / timer_frequency(), " ms");
}

void check_uart() {
  start_uart_interrupts();
  say("this line is longer than the UART's FIFO and raises its interrupt");
  wait_for("UART interrupt", [] { return uart_interrupts() != 0; });
  stop_uart_interrupts();
}

void check_psci() {
  const std::uint32_t version = psci_version();
  constexpr std::uint32_t kOldest = 2;  // 0.2, the first with these function numbers
  if (version < kOldest || version >> 31 != 0) fail("PSCI_VERSION is ", Hex{version});
  if (psci_unknown() != ~0U) fail("a PSCI function that is not there is not NOT_SUPPORTED");
  say("PSCI ", std::uint64_t{version >> 16}, ".", std::uint64_t{version & 0xffffU});
}

}  // namespace

const std::string_view guest_name = "bare-metal";

void run_guest() {
  say("the device tree has ", machine.ram_size >> 20, " MiB of RAM at ", Hex{machine.ram_base});
  if (has_word("fail")) fail("it was told to");
  if (has_word("hang")) {
    while (true) wait_for_interrupt();
  }
  if (has_word("bench")) {
    run_benchmarks(untouched_ram(), static_cast<std::uint32_t>(ram_end()));
    say("ok");
    system_off();
  }

  start_gic();
  enable_interrupt(machine.timer_interrupt);
  enable_interrupt(machine.uart_interrupt);
  enable_interrupts();
  check_psci();
  check_timer();
  check_uart();
  check_ram();
  check_small_pages();
  check_aborts();
  check_device_accesses();
  check_cache_maintenance();
  if (stray_interrupt() != 0) fail("stray interrupt ", std::uint64_t{stray_interrupt()});

  if (has_word("reset")) {
    say("reset");
    system_reset();
    fail("SYSTEM_RESET came back");
  }
  say("ok");
  system_off();
}

}  // namespace cadastre::guest
