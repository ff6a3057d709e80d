// A guest as the page allocator sees it: it grows, its pages can be moved, and it knows what it wrote where.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "mm/frames/page_allocator.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/test.hh"

namespace cadastre {

class FakeGuest final : public Migrator {
 public:
  FakeGuest(PageFixture& f, OwnerId id) : f_(f), ownership_(f.pages.frames()), id_(id) { f.pages.set_migrator(this); }
  ~FakeGuest() { f_.pages.set_migrator(nullptr); }
  FakeGuest(const FakeGuest&) = delete;
  FakeGuest& operator=(const FakeGuest&) = delete;

  bool grow(unsigned order, AllocFlags flags = kHighmem | kMovable) {
    const auto block = f_.pages.alloc(order, flags | kNoWarn);
    if (!block) return false;
    const Gfn gfn(static_cast<std::uint32_t>(pages_.size()));
    REQUIRE(ownership_.give(*block, id_, gfn));
    for (std::uint32_t i = 0; i < 1U << order; ++i) {
      pages_.push_back(*block + i);
      std::memcpy(f_.machine.bytes_at(address_of(*block + i)), &pages_.back(), sizeof(Pfn));
      contents_.push_back(pages_.back());
    }
    return true;
  }
  void shrink() {
    for (std::size_t i = 0; i < pages_.size();) {
      const unsigned order = frame(pages_[i]).order();
      f_.pages.free(pages_[i], order);
      i += std::size_t{1} << order;
    }
    pages_.clear();
    contents_.clear();
  }
  // Every page still holds what was written to it, wherever it is now, and its frame knows which page of the guest it is.
  void check() {
    for (std::size_t i = 0; i < pages_.size(); ++i) {
      REQUIRE_EQ(std::memcmp(f_.machine.bytes_at(address_of(pages_[i])), &contents_[i], sizeof(Pfn)), 0);
      const FrameIndex index = f_.pages.frames().index_of(pages_[i]);
      const FrameIndex head = f_.pages.frames().head_of(index);
      REQUIRE_EQ(f_.pages.frames()[head].owner(), id_);
      REQUIRE_EQ(f_.pages.frames()[head].value() + (index - head), i);
    }
  }
  Pfn lowest() const { return *std::ranges::min_element(pages_); }
  bool uses(Pfn first, Pfn past) const {
    return std::ranges::any_of(pages_, [&](Pfn page) { return page >= first && page < past; });
  }

  Result<> migrate(Pfn from, Pfn to, unsigned order) override {
    ++migrations;
    if (refuse) return std::unexpected(Error::kBusy);
    const Frame& block = frame(from);
    REQUIRE_EQ(block.order(), order);
    for (std::uint32_t i = 0; i < 1U << order; ++i) {
      REQUIRE_EQ(pages_[block.value() + i], from + i);
      pages_[block.value() + i] = to + i;
    }
    std::memcpy(f_.machine.bytes_at(address_of(to)), f_.machine.bytes_at(address_of(from)), kPageSize << order);
    return {};
  }
  Result<> split(Pfn block) override {
    ++splits;
    return ownership_.split(block, 0);
  }

  bool refuse = false;
  int migrations = 0;
  int splits = 0;

 private:
  Frame& frame(Pfn pfn) { return f_.pages.frames()[f_.pages.frames().index_of(pfn)]; }

  PageFixture& f_;
  Ownership ownership_;
  OwnerId id_;
  std::vector<Pfn> pages_;
  std::vector<Pfn> contents_;
};

}  // namespace cadastre
