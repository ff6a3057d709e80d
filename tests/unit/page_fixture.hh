// A machine with a page allocator over its RAM, for the tests of everything that stands on pages.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "mm/base/spinlock.hh"
#include "mm/boot/memblock.hh"
#include "mm/frames/page_allocator.hh"
#include "tests/model/fake_machine.hh"
#include "tests/unit/test.hh"

namespace cadastre {

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20U;
inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30U;

class LogLines final : public Log {
 public:
  void write_line(std::string_view line) override {
    const SpinlockGuard guard(lock_);  // several CPUs may have something to say
    lines.emplace_back(line);
  }
  std::vector<std::string> lines;

 private:
  Spinlock lock_;
};

struct PageFixture {
  struct Options {
    PhysAddr high_memory{kGiB << 10U};
    PhysAddr dma_limit{4 * kGiB};
    PageAllocatorConfig config{};
    std::uint64_t reserve_base = 0;
    std::uint64_t reserve_size = 0;
    MemblockFlags reserve_flags = MemblockFlags::kPool;
  };

  explicit PageFixture(std::uint64_t size) : PageFixture({{.base = kGiB, .size = size}}, Options()) {}
  PageFixture(const std::vector<FakeBank>& banks, Options options)
      : machine(banks, options.high_memory), pages(machine) {
    for (const FakeBank& bank : banks) REQUIRE(memblock.add(PhysAddr(bank.base), bank.size, bank.nid));
    REQUIRE(memblock.reserve(PhysAddr(options.reserve_base), options.reserve_size, kNoNode, options.reserve_flags));
    memblock.set_current_limit(options.high_memory);
    options.config.dma_limit = options.dma_limit;
    options.config.log = &log;
    REQUIRE(pages.init(memblock, options.config));
    pages.release(memblock);
  }

  FrameCounts counts() {
    check_audit();
    return pages.audit().value_or(FrameCounts{});
  }
  void check_audit() {
    const auto audit = pages.audit();
    if (!audit) FAIL("audit: frame ", audit.error().frame.value(), ": ", std::string(audit.error().what));
  }
  bool is_zero(Pfn block, unsigned order) {
    const std::byte* bytes = machine.bytes_at(address_of(block));
    for (std::size_t i = 0; i < kPageSize << order; ++i) {
      if (bytes[i] != std::byte{0}) return false;
    }
    return true;
  }

  FakeMachine machine;
  LogLines log;
  Memblock memblock;
  PageAllocator<FakeMachine> pages;
};

// Other CPUs, which count how often they are asked for their pages, and then do what the test says, once.
class CountingCpus final : public OtherCpus {
 public:
  explicit CountingCpus(PageFixture& f) : f_(f) { f_.pages.set_other_cpus(this); }
  ~CountingCpus() { f_.pages.set_other_cpus(nullptr); }
  CountingCpus(const CountingCpus&) = delete;
  CountingCpus& operator=(const CountingCpus&) = delete;

  void drain() override {
    ++drains;
    if (when_drained != nullptr) std::exchange(when_drained, nullptr)(f_);
  }
  void wait() override {}

  unsigned drains = 0;
  void (*when_drained)(PageFixture&) = nullptr;

 private:
  PageFixture& f_;
};

}  // namespace cadastre
