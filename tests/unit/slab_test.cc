#include "mm/objects/slab.hh"
#include "mm/frames/ownership.hh"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "mm/objects/slab_shrinker.hh"
#include "tests/unit/slab_fixture.hh"

namespace cadastre {
namespace {

TEST_CASE("slab: objects are distinct, aligned, as large as asked, and come back") {
  for (const SlabFlags flags : {kFast, kChecked}) {
    SlabFixture f;
    const std::uint32_t before = f.hyp_after_shrink();
    for (const std::size_t size : {1U, 8U, 24U, 100U, 1000U, 5000U, 20000U}) {
      for (const std::size_t align : {8U, 64U, 1024U}) {
        ObjectCache& cache = f.make(size, flags, align);
        std::vector<void*> objects;
        for (int i = 0; i < 100; ++i) {
          void* object = *f.slabs.alloc(cache);
          CHECK_EQ(reinterpret_cast<std::uintptr_t>(object) % align, 0);
          std::memset(object, i, size);
          objects.push_back(object);
        }
        for (int i = 0; i < 100; ++i) REQUIRE(is_all(objects[static_cast<std::size_t>(i)], size, i));
        for (void* object : objects) f.slabs.free(cache, object);
        REQUIRE(f.slabs.destroy(cache));
      }
    }
    f.check_nothing_lost(before);
    CHECK_EQ(f.slabs.bad_objects(), 0);
  }
}

TEST_CASE("slab: the object freed last is allocated next") {
  SlabFixture f;
  ObjectCache& cache = f.make(40);
  void* a = *f.slabs.alloc(cache);
  void* b = *f.slabs.alloc(cache);
  f.slabs.free(cache, a);
  f.slabs.free(cache, b);
  CHECK_EQ(*f.slabs.alloc(cache), b);
  CHECK_EQ(*f.slabs.alloc(cache), a);
}

TEST_CASE(
    "slab: which objects are free is not in what users write to: neither frees nor allocations change it, nor does it "
    "matter") {
  SlabFixture f;
  ObjectCache& cache = f.make(40);
  std::vector<void*> objects(200);
  REQUIRE(f.slabs.alloc_bulk(cache, objects));
  for (void* object : objects) std::memset(object, 0x77, 40);
  f.slabs.free_bulk(cache, objects);
  for (void* object : objects) {
    REQUIRE(is_all(object, 40, 0x77));
    std::memset(object, 0xff, 40);  // a user that does not know that it is gone
  }
  REQUIRE(f.slabs.audit());
  for (void* object : objects) CHECK_EQ(f.slabs.try_free(cache, object).error(), Error::kCorrupt);
  const std::set<void*> known(objects.begin(), objects.end());
  std::vector<void*> again(200);
  REQUIRE(f.slabs.alloc_bulk(cache, again));
  CHECK_EQ(std::set<void*>(again.begin(), again.end()).size(), again.size());
  for (void* object : again) CHECK(is_all(object, 1, known.contains(object) ? 0xff : 0));
  f.slabs.free_bulk(cache, again);
}

TEST_CASE("slab: sizes and alignments that make no sense are refused") {
  SlabFixture f;
  const auto refused = [&](const CacheConfig& config) { CHECK_EQ(f.slabs.create(config).error(), Error::kInvalid); };
  refused({.name = "zero", .size = 0});
  refused({.name = "huge", .size = 40000});
  refused({.name = "odd", .size = 8, .align = 24});
  refused({.name = "far", .size = 8, .align = 8192});
  refused({.name = "one too large", .size = 32769});
  for (const SlabFlags flags : {kFast, kChecked}) {
    const auto largest = f.slabs.create({.name = "largest", .size = 32768, .align = kPageSize, .flags = flags});
    REQUIRE(largest);
    void* object = *f.slabs.alloc(**largest, kZero);
    CHECK(is_all(object, 32768, 0));
    f.slabs.free(**largest, object);
  }
}

TEST_CASE("slab: a slab is the smallest that holds 8 objects and wastes a sixteenth at most, or the largest there is") {
  SlabFixture f;
  for (std::size_t size = 8; size <= 32768; size += size < 512 ? 8 : 968) {
    ObjectCache& cache = f.make(size);
    f.slabs.free(cache, *f.slabs.alloc(cache));
    const CacheInfo info = f.slabs.info(0, cache);
    // Each object has a byte for its link, which up to 12 of them have in the slab's second frame.
    const auto objects = [&](unsigned order) {
      const std::size_t without_links = (kPageSize << order) / info.stride;
      return order != 0 && without_links <= 12 ? without_links : (kPageSize << order) / (info.stride + 1);
    };
    const auto fits = [&](unsigned order) {
      const std::size_t bytes = kPageSize << order;
      return objects(order) >= 8 && bytes - objects(order) * info.stride <= bytes / 16;
    };
    CHECK_EQ(info.objects_per_slab, objects(info.order));
    CHECK((fits(info.order) || info.order == 3));
    for (unsigned smaller = 0; smaller < info.order; ++smaller) CHECK_FALSE(fits(smaller));
    REQUIRE(f.slabs.destroy(cache));
  }
}

TEST_CASE("slab: there is a limit to the number of caches, and a destroyed one makes room") {
  SlabFixture f;
  std::vector<ObjectCache*> caches;
  for (;;) {
    const auto cache = f.slabs.create({.name = "many", .size = 16, .flags = kFast});
    if (!cache) {
      CHECK_EQ(cache.error(), Error::kLimit);
      break;
    }
    caches.push_back(*cache);
  }
  CHECK_GT(caches.size(), 32);
  CHECK_EQ(SlabCache<int, FakeMachine>(f.slabs).init("no more").error(), Error::kLimit);
  REQUIRE(f.slabs.destroy(*caches.back()));
  CHECK(f.slabs.create({.name = "one more", .size = 16}));
}

TEST_CASE("slab: a cache with live objects is not destroyed, and the log names them") {
  for (const SlabFlags flags : {kFast, kChecked}) {
    SlabFixture f;
    ObjectCache& cache = f.make(200, flags);
    std::vector<void*> objects(50);
    for (void*& object : objects) object = *f.slabs.alloc(cache);
    for (std::size_t i = 0; i < objects.size(); ++i) {
      if (i != 20 && i != 30) f.slabs.free(cache, objects[i]);
    }
    CHECK_EQ(f.slabs.destroy(cache).error(), Error::kBusy);
    REQUIRE_EQ(f.log.lines.size(), flags.has(kObjectHistory) ? 5 : 3);
    CHECK_EQ(f.log.lines[0], "slab: test: not destroyed, 2 objects live");
    std::array<char, 64> name{};
    for (const std::size_t i : {20U, 30U}) {
      const std::string line(format_to(name, "slab:   object at {}", static_cast<const void*>(objects[i])));
      CHECK_NE(std::ranges::find(f.log.lines, line), f.log.lines.end());
    }
    // It is still good.
    f.slabs.free(cache, objects[20]);
    f.slabs.free(cache, *f.slabs.alloc(cache));
    f.slabs.free(cache, objects[30]);
    CHECK(f.slabs.destroy(cache));
  }
}

TEST_CASE("slab: zeroed objects are zero, constructed ones keep their state") {
  for (const SlabFlags flags : {kFast, kChecked}) {
    SlabFixture f;
    ObjectCache& cache = f.make(64, flags);
    void* object = *f.slabs.alloc(cache);
    std::memset(object, 0xff, 64);
    f.slabs.free(cache, object);
    CHECK(is_all(*f.slabs.alloc(cache, kZero), 64, 0));
    const auto made = f.slabs.create(
        {.name = "constructed", .size = 32, .flags = flags, .constructor = [](void* p) { std::memset(p, 0x42, 32); }});
    REQUIRE(made);
    std::vector<void*> objects;
    for (int i = 0; i < 300; ++i) {
      objects.push_back(*f.slabs.alloc(**made));
      CHECK(is_all(objects.back(), 32, 0x42));
    }
    for (void* p : objects) f.slabs.free(**made, p);
    for (int i = 0; i < 300; ++i) CHECK(is_all(*f.slabs.alloc(**made), 32, 0x42));
  }
}

TEST_CASE("slab: objects that cannot be as asked are refused: of a zone, of a node, constructed and zero") {
  for (const SlabFlags flags : {kFast, kChecked}) {
    SlabFixture f;
    ObjectCache& plain = f.make(64, flags);
    ObjectCache& constructed = **f.slabs.create(
        {.name = "constructed", .size = 64, .flags = flags, .constructor = [](void* p) { std::memset(p, 0x42, 64); }});
    for (ObjectCache* cache : {&plain, &constructed}) {
      CHECK_EQ(f.slabs.alloc(*cache, kDma).error(), Error::kInvalid);
      CHECK_EQ(f.slabs.alloc(*cache, kThisNode | kZero).error(), Error::kInvalid);
    }
    for (int i = 0; i < 100; ++i) {
      CHECK_EQ(f.slabs.alloc(constructed, kZero).error(), Error::kInvalid);
      CHECK(is_all(*f.slabs.alloc(constructed), 64, 0x42));
    }
  }
}

TEST_CASE("slab: bulk requests get all or nothing") {
  SlabFixture f(16 * kMiB);
  ObjectCache& cache = f.make(4096);
  std::vector<void*> objects(10000);
  const std::uint32_t before = f.hyp_after_shrink();
  CHECK_EQ(f.slabs.alloc_bulk(cache, objects).error(), Error::kNoMemory);
  f.check_nothing_lost(before);
  REQUIRE(f.slabs.alloc_bulk(cache, std::span(objects).first(500)));
  CHECK_EQ(std::set<void*>(objects.begin(), objects.begin() + 500).size(), 500);
  f.slabs.free_bulk(cache, std::span(objects).first(500));
  f.check_nothing_lost(before);
}

TEST_CASE("slab: shrink gives back what is empty and nothing else") {
  SlabFixture f;
  ObjectCache& cache = f.make(512);
  std::vector<void*> objects(400);
  for (void*& object : objects) object = *f.slabs.alloc(cache);
  const std::uint32_t full = f.counts().hyp;
  for (std::size_t i = 1; i < objects.size(); ++i) f.slabs.free(cache, objects[i]);
  f.slabs.shrink(cache);
  CHECK_LT(f.counts().hyp, full);
  const CacheInfo info = f.slabs.info(0, cache);
  CHECK_EQ(info.slabs, 1);
  CHECK_EQ(info.active, 1);
  f.slabs.free(cache, objects[0]);
  CHECK_EQ(f.slabs.shrink(cache), 1U << info.order);
}

TEST_CASE("slab: of what becomes empty a cache keeps a few slabs, the rest goes back by itself") {
  SlabFixture f;
  ObjectCache& cache = f.make(512);
  const unsigned each = cache.objects_per_slab();
  std::vector<void*> objects(std::size_t{each} * 40);
  REQUIRE(f.slabs.alloc_bulk(cache, objects));
  // Of each slab one first, so that all of them are partial: most the node's, the last the CPU's.
  for (std::size_t i = 0; i < objects.size(); i += each) f.slabs.free(cache, objects[i]);
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const std::size_t from_the_end = objects.size() - 1 - i;
    if (from_the_end % each != 0) f.slabs.free(cache, objects[from_the_end]);
  }
  REQUIRE(f.slabs.audit());
  CHECK_LE(f.slabs.info(0, cache).slabs, 12);
  REQUIRE(f.slabs.alloc_bulk(cache, objects));
  CHECK_EQ(std::set<void*>(objects.begin(), objects.end()).size(), objects.size());
  f.slabs.free_bulk(cache, objects);
  CHECK(f.slabs.destroy(cache));
}

TEST_CASE("slab: foreign, misplaced and double frees are refused, checked or not") {
  for (const SlabFlags flags : {kFast, kChecked}) {
    SlabFixture f;
    ObjectCache& cache = f.make(48, flags);
    ObjectCache& other = f.make(48, flags);
    void* object = *f.slabs.alloc(cache);
    void* foreign = *f.slabs.alloc(other);
    const auto refused = [&](void* pointer, std::string_view why) {
      f.log.lines.clear();
      CHECK_EQ(f.slabs.try_free(cache, pointer).error(), Error::kCorrupt);
      REQUIRE_FALSE(f.log.lines.empty());
      CHECK_NE(f.log.lines[0].find(why), std::string::npos);
    };
    refused(foreign, "free of a foreign pointer");
    const Pfn page = *f.pages.alloc(0);
    refused(f.machine.linear(address_of(page)), "free of a foreign pointer");
    // A guest whose number is the cache's.
    REQUIRE(Ownership(f.pages.frames()).give(page, cache.id(), Gfn(7)));
    refused(f.machine.linear(address_of(page)), "free of a foreign pointer");
    f.pages.free(page, 0);
    refused(static_cast<std::byte*>(object) + 4, "free of a misplaced pointer");
    REQUIRE(f.slabs.try_free(cache, object));
    refused(object, "double free");
  }
}

TEST_CASE("slab: of every size, an object is freed by the pointer to its first byte and no other") {
  SlabFixture f;
  for (std::size_t size = 16; size <= 32768; size += size < 512 ? 8 : 968) {
    ObjectCache& cache = f.make(size);
    std::vector<void*> objects(cache.objects_per_slab() + 1);  // the first slab is not the CPU's own any more
    REQUIRE(f.slabs.alloc_bulk(cache, objects));
    for (void* object : std::span(objects).first(cache.objects_per_slab())) {
      for (const std::size_t beside : {std::size_t{1}, std::size_t{4}, size / 2, size - 1}) {
        CHECK_EQ(f.slabs.try_free(cache, static_cast<std::byte*>(object) + beside).error(), Error::kCorrupt);
      }
    }
    // Behind the last object, where one more would be if the slab were larger.
    if ((kPageSize << cache.order()) % size != 0) {
      auto* last = static_cast<std::byte*>(*std::max_element(objects.begin(), objects.end() - 1));
      CHECK_EQ(f.slabs.try_free(cache, last + size).error(), Error::kCorrupt);
    }
    for (void* object : objects) REQUIRE(f.slabs.try_free(cache, object));
    REQUIRE(f.slabs.destroy(cache));
  }
}

TEST_CASE("slab: a double free is found however late, checked or not") {
  for (const SlabFlags flags : {kFast, kChecked}) {
    SlabFixture f;
    ObjectCache& cache = f.make(48, flags);
    std::vector<void*> objects(10);
    for (void*& object : objects) object = *f.slabs.alloc(cache);
    for (void* object : objects) f.slabs.free(cache, object);
    for (void* object : objects) CHECK_EQ(f.slabs.try_free(cache, object).error(), Error::kCorrupt);
    CHECK_EQ(f.slabs.bad_objects(), 10);
    // Nothing has changed by it.
    for (void*& object : objects) object = *f.slabs.alloc(cache);
    CHECK_EQ(std::set<void*>(objects.begin(), objects.end()).size(), objects.size());
  }
}

TEST_CASE("slab: a double free is found whichever of the ways an object has gone since") {
  // The CPU's own list; the slab's, from another CPU; a partial slab; the node's list; and back at hand.
  for (const std::size_t size : {8U, 40U, 64U, 300U, 1024U, 5000U, 20000U}) {
    SlabFixture f;
    ObjectCache& cache = f.make(size);
    std::vector<void*> objects(std::size_t{cache.objects_per_slab()} * 12);
    REQUIRE(f.slabs.alloc_bulk(cache, objects));
    std::uint32_t refused = 0;
    for (std::size_t i = 0; i < objects.size(); ++i) {
      FakeMachine::current_cpu = static_cast<unsigned>(i / 3 % 3);
      REQUIRE(f.slabs.try_free(cache, objects[i]));
      for (unsigned cpu = 0; cpu < 3; ++cpu) {
        FakeMachine::current_cpu = cpu;
        for (const std::size_t earlier : {i, i / 2, std::size_t{0}}) {
          const std::uint32_t before = f.slabs.bad_objects();
          // Its slab may have gone back to the pages.
          CHECK_EQ(f.slabs.try_free(cache, objects[earlier]).error(), Error::kCorrupt);
          CHECK_EQ(f.slabs.bad_objects(), before + 1);
          ++refused;
        }
      }
    }
    CHECK_EQ(refused, objects.size() * 9);
    FakeMachine::current_cpu = 0;
    REQUIRE(f.slabs.audit());
    REQUIRE(f.slabs.destroy(cache));
  }
}

TEST_CASE(
    "slab: a pointer to no object's first byte is not freed, in the current slab or another, by cache or by kfree") {
  SlabFixture f;
  std::vector<std::byte*> objects(200);
  for (std::byte*& object : objects) object = static_cast<std::byte*>(*f.slabs.kmalloc(64));
  for (std::byte* object : objects) {
    for (const std::size_t beside : {1U, 4U, 8U, 32U, 63U}) {
      CHECK_EQ(f.slabs.try_kfree(object + beside).error(), Error::kCorrupt);
      CHECK_EQ(f.slabs.ksize(object + beside), 0);
    }
  }
  CHECK_EQ(f.slabs.bad_objects(), 200 * 5);
  const std::set<std::byte*> mine(objects.begin(), objects.end());
  for (int i = 0; i < 200; ++i) CHECK_FALSE(mine.contains(static_cast<std::byte*>(*f.slabs.kmalloc(64))));
  for (std::byte* object : objects) f.slabs.kfree(object);
}

TEST_CASE("slab: what is not kmalloc's is not freed by kfree, and a slab's page not by the page allocator") {
  SlabFixture f;
  ObjectCache& cache = f.make(64);
  void* object = *f.slabs.alloc(cache);
  CHECK_EQ(f.slabs.try_kfree(object).error(), Error::kCorrupt);
  CHECK_EQ(f.slabs.ksize(object), 0);
  CHECK_EQ(f.slabs.try_kfree(&cache).error(), Error::kCorrupt);
  const Pfn page = *f.pages.alloc(2);
  CHECK_EQ(f.slabs.try_kfree(f.machine.linear(address_of(page))).error(), Error::kCorrupt);
  f.pages.free(page, 2);

  void* large = *f.slabs.kmalloc(3 * kPageSize);
  for (void* pointer : {object, large}) {
    const Pfn frame = frame_of(f.machine.linear_address(pointer));
    const unsigned order = pointer == large ? 2 : cache.order();
    f.log.lines.clear();
    CHECK_EQ(f.pages.try_free(frame, order).error(), Error::kCorrupt);
    REQUIRE_FALSE(f.log.lines.empty());
    CHECK_NE(f.log.lines[0].find("free of a slab"), std::string::npos);
  }
  f.slabs.kfree(large);
  f.slabs.free(cache, object);
  CHECK_EQ(f.slabs.try_kfree(large).error(), Error::kCorrupt);
  REQUIRE(f.slabs.audit());
}

TEST_CASE("slab: an object that is kept aside is in use, and nobody frees it") {
  for (const SlabFlags flags : {kFast, kChecked}) {
    SlabFixture f;
    ObjectCache& cache = f.make(64, flags);
    void* object = *f.slabs.alloc(cache);
    CHECK_EQ(f.slabs.unhold(cache, object).error(), Error::kCorrupt);
    REQUIRE(f.slabs.hold(cache, object));
    CHECK_EQ(f.slabs.hold(cache, object).error(), Error::kCorrupt);
    CHECK_EQ(f.slabs.try_free(cache, object).error(), Error::kCorrupt);
    CHECK_EQ(f.slabs.hold(cache, static_cast<std::byte*>(object) + 8).error(), Error::kCorrupt);
    CHECK_EQ(f.slabs.destroy(cache).error(), Error::kBusy);
    REQUIRE(f.slabs.unhold(cache, object));
    REQUIRE(f.slabs.try_free(cache, object));
    CHECK_EQ(f.slabs.hold(cache, object).error(), Error::kCorrupt);
    REQUIRE(f.slabs.destroy(cache));
  }
}

TEST_CASE("slab: a report says who allocated and who freed last, when the cache keeps that") {
  SlabFixture f;
  ObjectCache& cache = f.make(48, kObjectHistory);
  void* object = *f.slabs.alloc(cache);
  f.slabs.free(cache, object);
  f.log.lines.clear();
  CHECK_EQ(f.slabs.try_free(cache, object).error(), Error::kCorrupt);
  REQUIRE_EQ(f.log.lines.size(), 3);
  CHECK_NE(f.log.lines[2].find("last allocated by 0x"), std::string::npos);
  CHECK_NE(f.log.lines[2].find("last freed by 0x"), std::string::npos);
}

TEST_CASE("slab: checks that are asked for are those of every cache made afterwards, kmalloc's too") {
  for (const SlabFlags checks : {SlabFlags{}, kRedZone, kPoisonObjects, kObjectHistory}) {
    PageFixture f(32 * kMiB);
    SlabAllocator slabs(f.pages);
    slabs.set_checks(checks);
    REQUIRE(slabs.init(&f.log, kFast));
    ObjectCache& cache = **slabs.create({.name = "test", .size = 64, .flags = kFast});
    const auto found = [&](auto&& free, auto&& allocate) {
      auto* object = static_cast<std::byte*>(*allocate());
      if (checks.has(kRedZone)) object[64] = std::byte{1};
      std::uint32_t before = slabs.bad_objects();
      CHECK_EQ(free(object).has_value(), !checks.has(kRedZone));
      CHECK_EQ(slabs.bad_objects() - before, checks.has(kRedZone) ? 1 : 0);

      object = static_cast<std::byte*>(*allocate());
      REQUIRE(free(object));
      object[7] = std::byte{1};
      before = slabs.bad_objects();
      static_cast<void>(*allocate());
      CHECK_EQ(slabs.bad_objects() - before, checks.has(kPoisonObjects) ? 1 : 0);

      object = static_cast<std::byte*>(*allocate());
      REQUIRE(free(object));
      f.log.lines.clear();
      CHECK_EQ(free(object).error(), Error::kCorrupt);
      const bool is_named = f.log.lines.back().find("last freed by 0x") != std::string::npos;
      CHECK_EQ(is_named, checks.has(kObjectHistory));
    };
    found([&](void* object) { return slabs.try_free(cache, object); }, [&] { return slabs.alloc(cache); });
    found([&](void* object) { return slabs.try_kfree(object); }, [&] { return slabs.kmalloc(64); });
  }
}

TEST_CASE("slab: red zones find writes beyond both ends") {
  for (const std::size_t size : {13U, 16U}) {
    for (const std::ptrdiff_t at : {std::ptrdiff_t{-1}, static_cast<std::ptrdiff_t>(size)}) {
      SlabFixture f;
      ObjectCache& cache = f.make(size, kChecked);
      auto* object = static_cast<std::byte*>(*f.slabs.alloc(cache));
      object[at] = std::byte{7};
      CHECK_EQ(f.slabs.try_free(cache, object).error(), Error::kCorrupt);
      CHECK_NE(f.log.lines[0].find("red zone"), std::string::npos);
    }
  }
}

TEST_CASE("slab: poison finds a write after the free, and the broken object is not used again") {
  SlabFixture f;
  ObjectCache& cache = f.make(100, kChecked);
  auto* object = static_cast<std::byte*>(*f.slabs.alloc(cache));
  f.slabs.free(cache, object);
  object[50] = std::byte{1};
  void* next = *f.slabs.alloc(cache);
  CHECK_NE(next, object);
  REQUIRE_FALSE(f.log.lines.empty());
  CHECK_NE(f.log.lines[0].find("object written to after it was freed"), std::string::npos);
  CHECK_EQ(f.slabs.bad_objects(), 1);
}

TEST_CASE("slab: each check alone finds what it is for") {
  for (const SlabFlags flags : {kRedZone, kPoisonObjects, kObjectHistory}) {
    SlabFixture f;
    ObjectCache& cache = f.make(48, flags);
    auto* object = static_cast<std::byte*>(*f.slabs.alloc(cache));
    void* other = *f.slabs.alloc(cache);
    CHECK_EQ(f.slabs.try_free(cache, object + 8).error(), Error::kCorrupt);
    REQUIRE(f.slabs.try_free(cache, object));
    REQUIRE(f.slabs.try_free(cache, other));
    CHECK_EQ(f.slabs.try_free(cache, object).error(), Error::kCorrupt);
    const std::uint32_t before = f.slabs.bad_objects();
    if (flags.has(kPoisonObjects)) object[20] = std::byte{1};
    const std::array objects{*f.slabs.alloc(cache), *f.slabs.alloc(cache)};
    CHECK_EQ(f.slabs.bad_objects() - before, flags.has(kPoisonObjects) ? 1 : 0);
    auto* behind = static_cast<std::byte*>(objects[0]) + 48;
    if (flags.has(kRedZone)) *behind = std::byte{1};
    CHECK_EQ(f.slabs.try_free(cache, objects[0]).has_value(), !flags.has(kRedZone));
  }
}

TEST_CASE("slab: objects of a type are constructed and destroyed") {
  struct Counted {
    explicit Counted(int& count) : count_(count) { ++count_; }
    ~Counted() { --count_; }
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;
    int& count_;
  };
  SlabFixture f;
  SlabCache<Counted, FakeMachine> cache(f.slabs);
  REQUIRE(cache.init("counted"));
  int count = 0;
  Counted* a = *cache.create(count);
  Counted* b = *cache.create(count);
  CHECK_EQ(count, 2);
  cache.destroy(a);
  CHECK_EQ(cache.close().error(), Error::kBusy);
  cache.destroy(b);
  CHECK_EQ(count, 0);
  CHECK(cache.close());
}

TEST_CASE("slab: slabinfo is a table of the caches") {
  SlabFixture f;
  ObjectCache& cache = f.make(104);
  void* object = *f.slabs.alloc(cache);
  f.slabs.print_slabinfo(0, f.log);
  CHECK_EQ(f.log.lines.size(), 1 + 1 + 13 + 1);
  CHECK(f.log.lines.back().starts_with("test                      1       39      104       39        1        1"));
  f.slabs.free(cache, object);
}

TEST_CASE("slab: empty slabs go when pages run low, those with objects stay") {
  SlabFixture f;
  SlabShrinker shrinker(f.slabs);
  f.pages.shrinkers().add(shrinker);
  f.slabs.shrink_all();
  CHECK_EQ(f.slabs.spare_pages(), 0);
  ObjectCache& cache = f.make(kPageSize / 2);
  std::vector<void*> objects(2000);
  REQUIRE(f.slabs.alloc_bulk(cache, objects));
  void* survivor = objects.back();
  objects.pop_back();
  // Another CPU frees them: what it has at hand is not what the first one can give.
  FakeMachine::current_cpu = 1;
  f.slabs.free_bulk(cache, objects);
  FakeMachine::current_cpu = 0;
  const std::uint32_t spare = f.slabs.spare_pages();
  CHECK_GE(spare, 4);
  std::vector<Pfn> taken;
  while (const auto page = f.pages.alloc(0, kNoWarn)) taken.push_back(*page);
  CHECK_EQ(f.slabs.spare_pages(), 0);
  CHECK_GT(f.slabs.info(0, cache).slabs, 0);
  for (const Pfn page : taken) f.pages.free(page, 0);
  f.slabs.free(cache, survivor);
  f.pages.shrinkers().remove(shrinker);
  FakeMachine::current_cpu = 1;
  f.slabs.shrink_all();
  FakeMachine::current_cpu = 0;
  REQUIRE(f.slabs.destroy(cache));
}

TEST_CASE("slab: when the Nth page for the allocator's own caches is missing, there are none, and it can try again") {
  PageFixture f(32 * kMiB);
  FaultInjector fault;
  f.pages.set_fault_injector(&fault);
  SlabAllocator slabs(f.pages);
  const std::uint32_t before = f.counts().hyp;
  for (std::uint32_t nth = 0;; ++nth) {
    REQUIRE_LT(nth, 20);
    fault.arm(nth);
    const auto made = slabs.init();
    fault.disarm();
    if (made) {
      CHECK_GT(nth, 0);
      break;
    }
    CHECK_EQ(made.error(), Error::kNoMemory);
    CHECK_EQ(f.counts().hyp, before);
    REQUIRE(slabs.audit());
  }
  void* object = *slabs.kmalloc(100);
  slabs.kfree(object);
}

TEST_CASE("slab: when the Nth allocation fails, all is as before") {
  for (const SlabFlags flags : {kFast, kChecked}) {
    SlabFixture f(32 * kMiB, flags);
    FaultInjector fault;
    f.slabs.set_fault_injector(0, &fault);
    f.pages.set_fault_injector(&fault);
    const std::uint32_t before = f.hyp_after_shrink();
    for (std::uint32_t nth = 0;; ++nth) {
      fault.arm(nth);
      // A path that allocates three ways.
      const auto path = [&]() -> Result<> {
        const auto cache = f.slabs.create({.name = "faulty", .size = 64, .flags = flags});
        if (!cache) return std::unexpected(cache.error());
        const auto destroy = [&] { REQUIRE(f.slabs.destroy(**cache)); };
        const auto a = f.slabs.alloc(**cache);
        if (!a) return destroy(), std::unexpected(a.error());
        const auto b = f.slabs.kmalloc(300);
        if (!b) return f.slabs.free(**cache, *a), destroy(), std::unexpected(b.error());
        const auto c = f.slabs.krealloc(*b, 9000);
        f.slabs.kfree(c ? *c : *b);
        f.slabs.free(**cache, *a);
        destroy();
        return c ? Result<>() : std::unexpected(c.error());
      };
      const auto result = path();
      fault.disarm();
      f.check_nothing_lost(before);
      if (result) {
        CHECK_LE(fault.attempts(), nth);
        break;
      }
      CHECK_EQ(result.error(), Error::kNoMemory);
      REQUIRE_LT(nth, 100);
    }
  }
}

}  // namespace
}  // namespace cadastre
