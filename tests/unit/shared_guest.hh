// What several CPUs share in tests: a guest's memory that moves, and each other's page lists.
#pragma once

#include <atomic>
#include <cstring>
#include <vector>

#include "mm/base/spinlock.hh"
#include "mm/frames/ownership.hh"
#include "mm/frames/page_allocator.hh"
#include "tests/unit/cpu_threads.hh"
#include "tests/unit/page_fixture.hh"

namespace cadastre {

inline std::uint32_t& first_word(PageFixture& f, Pfn page) {
  return *reinterpret_cast<std::uint32_t*>(f.machine.bytes_at(address_of(page)));
}

// Guests' pages by guest frame number, which the CPUs that run them and the one that moves pages agree about under a lock.
class SharedGuest final : public Migrator {
 public:
  static constexpr std::uint32_t kPages = 5000;

  explicit SharedGuest(PageFixture& f) : f_(f), ownership_(f.pages.frames()) { f.pages.set_migrator(this); }
  ~SharedGuest() { f_.pages.set_migrator(nullptr); }
  SharedGuest(const SharedGuest&) = delete;
  SharedGuest& operator=(const SharedGuest&) = delete;

  // Populates a page that is not there, or gives up one that is.
  void touch(std::uint32_t gfn) {
    const SpinlockGuard guard(lock_);
    Pfn& page = pages_[gfn];
    if (page != kNone) {
      if (first_word(f_, page) != gfn + 1) ++wrong;
      f_.pages.free(page, 0);
      page = kNone;
      return;
    }
    const auto fresh = f_.pages.alloc(0, kHighmem | kMovable | kNoWarn);
    if (!fresh) return;
    if (!ownership_.give(*fresh, 1, Gfn(gfn))) ++wrong;
    first_word(f_, *fresh) = gfn + 1;
    page = *fresh;
  }
  void release() {
    for (std::uint32_t gfn = 0; gfn < kPages; ++gfn) {
      if (pages_[gfn] != kNone) touch(gfn);
    }
  }

  Result<> migrate(Pfn from, Pfn to, unsigned order) override {
    const SpinlockGuard guard(lock_);
    const std::uint32_t gfn = f_.pages.frames()[f_.pages.frames().index_of(from)].value();
    if (order != 0 || gfn >= kPages || pages_[gfn] != from) return std::unexpected(Error::kNotFound);
    std::memcpy(f_.machine.bytes_at(address_of(to)), f_.machine.bytes_at(address_of(from)), kPageSize);
    pages_[gfn] = to;
    ++moved;
    return {};
  }
  Result<> split(Pfn /*block*/) override { return std::unexpected(Error::kBusy); }

  std::atomic<unsigned> wrong = 0;
  std::atomic<unsigned> moved = 0;

 private:
  static constexpr Pfn kNone{0};

  PageFixture& f_;
  Ownership ownership_;
  Spinlock lock_;
  std::vector<Pfn> pages_ = std::vector<Pfn>(kPages);
};

// The other CPUs, which drain their lists when they are asked.
class CallingCpus final : public OtherCpus {
 public:
  CallingCpus(PageFixture& f, CrossCalls& calls) : f_(f), calls_(calls) { f_.pages.set_other_cpus(this); }
  ~CallingCpus() { f_.pages.set_other_cpus(nullptr); }
  CallingCpus(const CallingCpus&) = delete;
  CallingCpus& operator=(const CallingCpus&) = delete;

  void drain() override {
    ++drains;
    calls_.ask_others(FakeMachine::cpu(), [&] { f_.pages.drain(FakeMachine::cpu()); });
  }
  void wait() override {
    poll();
    spin_wait();
  }
  void poll() {
    calls_.poll(FakeMachine::cpu(), [&] { f_.pages.drain(FakeMachine::cpu()); });
  }

  std::atomic<unsigned> drains = 0;

 private:
  PageFixture& f_;
  CrossCalls& calls_;
};

}  // namespace cadastre
