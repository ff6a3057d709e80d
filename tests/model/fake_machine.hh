// A machine for the allocators: banks of "RAM" at addresses of the test's choice, and a CPU number of each
// thread's own.
#pragma once

#include <sys/mman.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "mm/base/address.hh"
#include "mm/base/machine.hh"
#include "mm/boot/memblock.hh"
#include "mm/frames/kmap.hh"

namespace cadastre {

struct FakeBank {
  std::uint64_t base;
  std::uint64_t size;
  NodeId nid = 0;
};

class FakeMachine {
 public:
  // RAM from `high_memory` on is reached with kmap only. The host gives pages as they are touched.
  explicit FakeMachine(std::vector<FakeBank> banks, PhysAddr high_memory = PhysAddr(std::uint64_t{1} << 40U))
      : banks_(std::move(banks)), high_memory_(high_memory) {
    for (const FakeBank& bank : banks_) size_ += static_cast<std::size_t>(bank.size);
    // What is aligned in RAM is aligned here too, if banks are multiples of 4 MiB.
    void* mapping =
        mmap(nullptr, size_ + kAlignment, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) fail("cannot map RAM");
    mapping_ = static_cast<std::byte*>(mapping);
    const auto address = reinterpret_cast<std::uintptr_t>(mapping_);
    bytes_ = mapping_ + (((address + kAlignment - 1) & ~(kAlignment - 1)) - address);
  }
  ~FakeMachine() { munmap(mapping_, size_ + kAlignment); }
  FakeMachine(const FakeMachine&) = delete;
  FakeMachine& operator=(const FakeMachine&) = delete;

  static inline thread_local unsigned current_cpu = 0;
  static unsigned cpu() { return current_cpu; }

  std::byte* linear(PhysAddr address) {
    if (address >= high_memory_) fail("high memory used without kmap");
    return bytes_at(address);
  }
  PhysAddr linear_address(const void* pointer) {
    auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(pointer) - bytes_);
    for (const FakeBank& bank : banks_) {
      if (offset < bank.size) return PhysAddr(bank.base + offset);
      offset -= static_cast<std::size_t>(bank.size);
    }
    fail("a pointer into no RAM");
  }
  Pfn high_memory() const { return frame_of(high_memory_); }
  // As on ARM: a page's mappings nest, to a limit, and are undone in the opposite order.
  std::byte* kmap(Pfn pfn) {
    const Result<unsigned> window = windows_.push();
    if (!window) fail("kmap nests too deep");
    return mapped_pages_[*window] = bytes_at(address_of(pfn));
  }
  void kunmap(const std::byte* bytes) {
    const unsigned newest = windows_.depth() - 1;
    if (!windows_.pop(newest) || mapped_pages_[newest] != bytes) fail("kunmap of what was not mapped last");
  }
  unsigned mapped() const { return windows_.depth(); }

  // For the test itself, whatever the zone.
  std::byte* bytes_at(PhysAddr address) {
    std::size_t offset = 0;
    for (const FakeBank& bank : banks_) {
      const PhysAddr base(bank.base);
      if (address >= base && address < base + bank.size) return bytes_ + offset + (address - base);
      offset += static_cast<std::size_t>(bank.size);
    }
    fail("no RAM at an address");
  }
  const std::vector<FakeBank>& banks() const { return banks_; }

 private:
  static constexpr std::uintptr_t kAlignment = std::uintptr_t{4} << 20U;

  [[noreturn]] static void fail(const char* what) {
    std::fputs("fake machine: ", stderr);
    std::fputs(what, stderr);
    std::fputs("\n", stderr);
    std::abort();
  }

  std::vector<FakeBank> banks_;
  PhysAddr high_memory_;
  std::size_t size_ = 0;
  std::byte* mapping_ = nullptr;
  std::byte* bytes_ = nullptr;
  static inline thread_local KmapStack windows_;
  static inline thread_local std::array<std::byte*, KmapStack::kWindows> mapped_pages_{};
};
static_assert(Machine<FakeMachine>);

}  // namespace cadastre
