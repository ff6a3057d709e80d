#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "mm/objects/slab.hh"
#include "tests/unit/slab_fixture.hh"

namespace cadastre {
namespace {

TEST_CASE("kmalloc: every size up to and beyond the largest class, with room for it, and back") {
  for (const SlabFlags flags : {kFast, kChecked}) {
    SlabFixture f(64 * kMiB, flags);
    const std::uint32_t before = f.hyp_after_shrink();
    std::vector<void*> all;
    for (std::size_t size = 1; size < 20000; size = size * 5 / 4 + 1) {
      void* pointer = *f.slabs.kmalloc(size, kZero);
      CHECK_GE(f.slabs.ksize(pointer), size);
      CHECK(is_all(pointer, size, 0));
      std::memset(pointer, 0xee, size);
      CHECK_EQ(reinterpret_cast<std::uintptr_t>(pointer) % 8, 0);
      if ((size & (size - 1)) == 0 && size >= 8 && size <= 4096) {
        CHECK_EQ(reinterpret_cast<std::uintptr_t>(pointer) % size, 0);
      }
      all.push_back(pointer);
    }
    for (void* pointer : all) f.slabs.kfree(pointer);
    f.slabs.kfree(nullptr);
    f.check_nothing_lost(before);
    CHECK_EQ(f.slabs.kmalloc(0).error(), Error::kInvalid);
    CHECK_EQ(f.slabs.kmalloc(5 * kMiB).error(), Error::kInvalid);
  }
}

TEST_CASE("kmalloc: a class is the smallest that fits") {
  constexpr std::array<std::size_t, 13> kClasses = {8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192};
  SlabFixture f;
  for (std::size_t size = 1; size <= 8192; ++size) {
    void* pointer = *f.slabs.kmalloc(size);
    REQUIRE_EQ(f.slabs.ksize(pointer), *std::ranges::lower_bound(kClasses, size));
    f.slabs.kfree(pointer);
  }
}

TEST_CASE("kmalloc: krealloc keeps the contents, and the old memory when there is no new") {
  SlabFixture f(16 * kMiB);
  auto* pointer = static_cast<unsigned char*>(*f.slabs.krealloc(nullptr, 10));
  for (unsigned char i = 0; i < 10; ++i) pointer[i] = i;
  CHECK_EQ(*f.slabs.krealloc(pointer, 16), pointer);
  auto* moved = static_cast<unsigned char*>(*f.slabs.krealloc(pointer, 9000));
  CHECK_NE(moved, pointer);
  for (unsigned char i = 0; i < 10; ++i) CHECK_EQ(moved[i], i);
  while (f.slabs.kmalloc(kPageSize << 5U, kNoWarn)) {
  }
  CHECK_EQ(f.slabs.krealloc(moved, kPageSize << 6U, kNoWarn).error(), Error::kNoMemory);
  CHECK_EQ(moved[9], 9);
  f.slabs.kfree(moved);
}

TEST_CASE("kmalloc: what must be of a zone or a node is, at every size, or there is none") {
  PageFixture f({{.base = kGiB, .size = 64 * kMiB}, {.base = 2 * kGiB, .size = 64 * kMiB, .nid = 1}},
                {.dma_limit = PhysAddr(kGiB + 16 * kMiB)});
  SlabAllocator slabs(f.pages);
  REQUIRE(slabs.init(&f.log));
  f.pages.set_cpu_node(0, 1);
  const auto address = [&](void* pointer) { return f.machine.linear_address(pointer); };
  std::vector<void*> all;
  for (const std::size_t size : {1U, 64U, 4096U, 8192U, 16384U}) {
    all.push_back(*slabs.kmalloc(size));  // so that the class has free objects, of this node's NORMAL zone
    void* dma = *slabs.kmalloc(size, kDma | kZero);
    CHECK_LT(address(dma), PhysAddr(kGiB + 16 * kMiB));
    CHECK(is_all(dma, size, 0));
    CHECK_GE(slabs.ksize(dma), size);
    void* here = *slabs.kmalloc(size, kThisNode);
    CHECK_GE(address(here), PhysAddr(2 * kGiB));
    all.insert(all.end(), {dma, here});
  }
  std::vector<Pfn> taken;
  while (const auto page = f.pages.alloc(0, kThisNode | kNoWarn)) taken.push_back(*page);
  for (const std::size_t size : {64U, 16384U}) {
    CHECK_EQ(slabs.kmalloc(size, kThisNode | kNoWarn).error(), Error::kNoMemory);
    all.push_back(*slabs.kmalloc(size));
  }
  for (const Pfn page : taken) f.pages.free(page, 0);
  for (void* pointer : all) slabs.kfree(pointer);
  CHECK_EQ(slabs.bad_objects(), 0);
  REQUIRE(slabs.audit());
}

TEST_CASE("kmalloc: what it did not return is not freed") {
  SlabFixture f;
  void* large = *f.slabs.kmalloc(20000);
  CHECK_EQ(f.slabs.try_kfree(static_cast<std::byte*>(large) + 4096).error(), Error::kCorrupt);
  CHECK_EQ(f.slabs.ksize(static_cast<std::byte*>(large) + 4096), 0);
  CHECK_EQ(f.slabs.krealloc(static_cast<std::byte*>(large) + 4096, 100).error(), Error::kCorrupt);
  f.slabs.kfree(large);
  CHECK_EQ(f.slabs.try_kfree(large).error(), Error::kCorrupt);
}

}  // namespace
}  // namespace cadastre
