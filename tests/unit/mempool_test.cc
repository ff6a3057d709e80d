#include "mm/objects/mempool.hh"

#include <random>
#include <string>
#include <vector>

#include "mm/translation/fault.hh"
#include "tests/unit/page_fixture.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

using Pages = PoolPages<FakeMachine>;

struct PoolFixture : PageFixture {
  PoolFixture() : PageFixture(16 * kMiB) { pages.set_fault_injector(&fault); }
  std::uint32_t held() { return counts().hyp; }
  // The allocator beneath has nothing, until this goes.
  struct Exhausted {
    explicit Exhausted(PoolFixture& fixture) : f(fixture) {
      while (const Result<Pfn> page = f.pages.alloc(0, kAtomic | kNoWarn)) taken.push_back(*page);
    }
    ~Exhausted() {
      for (const Pfn page : taken) f.pages.free(page, 0);
    }
    PoolFixture& f;
    std::vector<Pfn> taken;
  };

  FaultInjector fault;
};

TEST_CASE("mempool: the allocator beneath serves while it can, and the reserve stays whole") {
  PoolFixture f;
  Pages source(f.pages);
  Mempool pool(source);
  const std::uint32_t before = f.held();
  REQUIRE(pool.resize(4));
  CHECK_EQ(pool.available(), 4);
  CHECK_EQ(f.held(), before + 4);
  const Pfn page = *pool.alloc();
  CHECK_EQ(pool.available(), 4);
  CHECK_EQ(f.held(), before + 5);
  pool.free(page);
  CHECK_EQ(f.held(), before + 4);
  REQUIRE(pool.resize(0));
  CHECK_EQ(f.held(), before);
}

TEST_CASE("mempool: an element is freed once, whether the reserve or the allocator takes it") {
  PoolFixture f;
  Pages source(f.pages);
  Mempool pool(source);
  REQUIRE(pool.resize(2));
  const Pfn whole = *f.pages.alloc(1);
  std::vector<Pfn> out;
  {
    const PoolFixture::Exhausted nothing(f);
    for (int i = 0; i < 2; ++i) out.push_back(*pool.alloc(kNoWarn));
    CHECK_EQ(pool.available(), 0);
    CHECK_EQ(pool.try_free(whole).error(), Error::kCorrupt);
    CHECK_EQ(pool.try_free(whole + 1).error(), Error::kCorrupt);
    CHECK_EQ(pool.try_free(Pfn(1)).error(), Error::kCorrupt);
    CHECK_EQ(pool.available(), 0);
    REQUIRE(pool.try_free(out[0]));
    CHECK_EQ(pool.try_free(out[0]).error(), Error::kCorrupt);        // with room in the reserve
    CHECK_EQ(f.pages.try_free(out[0], 0).error(), Error::kCorrupt);  // and past the pool
    REQUIRE(pool.try_free(out[1]));
    CHECK_EQ(pool.try_free(out[0]).error(), Error::kCorrupt);  // and without
    CHECK_EQ(pool.available(), 2);
    const std::vector<Pfn> again{*pool.alloc(kNoWarn), *pool.alloc(kNoWarn)};
    CHECK_NE(again[0], again[1]);
    for (const Pfn page : again) pool.free(page);
  }
  f.pages.free(whole, 1);
  REQUIRE(pool.resize(0));
  CHECK_EQ(pool.try_free(out[0]).error(), Error::kCorrupt);
  f.check_audit();
}

TEST_CASE("mempool: objects in the reserve are not freed, by the pool or past it") {
  PageFixture f(16 * kMiB);
  SlabAllocator slabs(f.pages);
  REQUIRE(slabs.init(&f.log));
  ObjectCache& cache = **slabs.create({.name = "pooled", .size = 64});
  PoolObjects source(slabs, &cache);
  Mempool pool(source);
  REQUIRE(pool.resize(3));
  FaultInjector fault;
  slabs.set_fault_injector(0, &fault);
  fault.arm(0);
  void* object = *pool.alloc(kNoRetry);
  fault.disarm();
  CHECK_EQ(pool.available(), 2);
  CHECK_EQ(pool.try_free(static_cast<std::byte*>(object) + 8).error(), Error::kCorrupt);
  REQUIRE(pool.try_free(object));
  CHECK_EQ(pool.available(), 3);
  CHECK_EQ(pool.try_free(object).error(), Error::kCorrupt);
  CHECK_EQ(slabs.try_free(cache, object).error(), Error::kCorrupt);
  slabs.set_fault_injector(0, nullptr);
  REQUIRE(pool.resize(0));
  CHECK_EQ(pool.try_free(object).error(), Error::kCorrupt);
  REQUIRE(slabs.destroy(cache));
}

TEST_CASE("mempool: min_nr elements are there when nothing else is, and a free refills the reserve first") {
  PoolFixture f;
  Pages source(f.pages);
  Mempool pool(source);
  REQUIRE(pool.resize(3));
  std::vector<Pfn> out;
  {
    const PoolFixture::Exhausted nothing(f);
    for (unsigned left = 3; left > 0; --left) {
      const Result<Pfn> page = pool.alloc(kZero | kNoWarn);
      REQUIRE(page);
      CHECK(f.is_zero(*page, 0));
      CHECK_EQ(pool.available(), left - 1);
      std::memset(f.machine.bytes_at(address_of(*page)), 0x5a, kPageSize);
      out.push_back(*page);
    }
    CHECK_EQ(pool.alloc(kNoWarn).error(), Error::kNoMemory);
    pool.free(out.back());
    out.pop_back();
    CHECK_EQ(pool.available(), 1);
    const Result<Pfn> again = pool.alloc(kZero);  // what its last user left is not seen
    REQUIRE(again);
    CHECK(f.is_zero(*again, 0));
    out.push_back(*again);
  }
  const std::uint32_t held = f.held();
  for (const Pfn page : out) pool.free(page);
  CHECK_EQ(pool.available(), 3);
  CHECK_EQ(f.held(), held);  // all three went to the reserve, none to the allocator
  REQUIRE(pool.resize(0));
  CHECK_EQ(f.held(), held - 3);
}

TEST_CASE("mempool: the reserve is tried before an allocation reclaims in earnest, which comes last") {
  PoolFixture f;
  struct Hoard final : Shrinker {
    std::string_view name() const override { return "hoard"; }
    std::uint32_t count() override { return pages == nullptr ? 0 : static_cast<std::uint32_t>(kept.size()); }
    std::uint32_t scan(std::uint32_t) override {
      ++scans;
      if (scans < needed) return 1;  // says that it did something, and did not
      for (const Pfn page : kept) pages->free(page, 0);
      const auto freed = static_cast<std::uint32_t>(kept.size());
      kept.clear();
      return freed;
    }
    PageAllocator<FakeMachine>* pages = nullptr;
    std::vector<Pfn> kept;
    unsigned scans = 0;
    unsigned needed = 4;
  } hoard;
  Pages source(f.pages);
  Mempool pool(source);
  REQUIRE(pool.resize(1));
  for (unsigned i = 0; i < 1024; ++i) hoard.kept.push_back(*f.pages.alloc(0));
  {
    const PoolFixture::Exhausted nothing(f);
    hoard.pages = &f.pages;
    f.pages.shrinkers().add(hoard);
    const Pfn first = *pool.alloc();
    CHECK_EQ(pool.available(), 0);
    CHECK_LT(hoard.scans, hoard.needed);  // one look, no more
    const Result<Pfn> second = pool.alloc();
    REQUIRE(second);
    CHECK_EQ(hoard.scans, hoard.needed);
    pool.free(first);
    pool.free(*second);
  }
  f.pages.shrinkers().remove(hoard);
  REQUIRE(pool.resize(0));
}

TEST_CASE("mempool: when the Nth allocation of a resize fails, the reserve is as before and nothing leaks") {
  PoolFixture f;
  Pages source(f.pages, 1);
  Mempool pool(source);
  REQUIRE(pool.resize(2));
  const std::uint32_t before = f.held();
  for (std::uint32_t nth = 0;; ++nth) {
    f.fault.arm(nth);
    const Result<> resized = pool.resize(6);
    f.fault.disarm();
    if (resized) {
      CHECK_EQ(nth, 4);
      break;
    }
    CHECK_EQ(resized.error(), Error::kNoMemory);
    CHECK_EQ(pool.min_nr(), 2);
    CHECK_EQ(pool.available(), 2);
    CHECK_EQ(f.held(), before);
  }
  CHECK_EQ(f.held(), before + 8);
  REQUIRE(pool.resize(1));  // gives back
  CHECK_EQ(f.held(), before - 2);
  REQUIRE(pool.resize(0));
}

TEST_CASE("mempool: objects of a type are constructed and destroyed, also those of the reserve") {
  PoolFixture f;
  SlabAllocator<FakeMachine> slabs(f.pages);
  REQUIRE(slabs.init(&f.log));
  struct Request {
    Request(int& living, std::string text) : count(living), name(std::move(text)) { ++count; }
    ~Request() { --count; }
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;
    int& count;
    std::string name;
  };
  int living = 0;
  ObjectPool<Request, FakeMachine> pool(slabs);
  for (std::uint32_t nth = 0;; ++nth) {
    static_cast<void>(slabs.shrink_all());
    const std::uint32_t before = f.held();
    f.fault.arm(nth);
    const Result<> made = pool.init("request", 5);
    f.fault.disarm();
    if (made) break;
    CHECK_EQ(made.error(), Error::kNoMemory);
    static_cast<void>(slabs.shrink_all());
    CHECK_EQ(f.held(), before);
  }
  FaultInjector no_objects;
  std::vector<Request*> out;
  {
    slabs.set_fault_injector(0, &no_objects);
    for (unsigned i = 0; i < 5; ++i) {
      no_objects.arm(0);
      out.push_back(*pool.create(living, "a name that is too long to be kept inside of the string itself"));
    }
    CHECK_EQ(pool.available(), 0);
    slabs.set_fault_injector(0, nullptr);
  }
  CHECK_EQ(living, 5);
  CHECK_EQ(pool.close().error(), Error::kBusy);
  REQUIRE(pool.resize(5));
  for (Request* request : out) pool.destroy(request);
  CHECK_EQ(living, 0);
  REQUIRE(pool.close());
  CHECK(slabs.audit());
}

TEST_CASE("mempool: random operations agree with two counters") {
  PoolFixture f;
  Pages source(f.pages);
  Mempool pool(source);
  std::mt19937_64 random(test_seed());
  const auto below = [&](unsigned bound) { return static_cast<unsigned>(random() % bound); };
  const std::uint32_t before = f.held();
  unsigned min_nr = 0;
  unsigned reserve = 0;
  std::vector<Pfn> out;
  for (unsigned step = 0; step < 20'000; ++step) {
    const bool fails = below(3) == 0;
    if (fails) f.fault.arm(0);
    switch (below(10)) {
      case 0: {
        const unsigned wanted = below(12);
        const bool expected = !fails || wanted <= reserve;
        CHECK_EQ(pool.resize(wanted).has_value(), expected);
        if (expected) min_nr = reserve = wanted;
        break;
      }
      case 1:
      case 2:
      case 3:
      case 4: {
        // The reserve, and when that is empty the second try, which does not fail.
        const Result<Pfn> page = pool.alloc(kNoWarn);
        REQUIRE(page);
        if (fails && reserve != 0) --reserve;
        CHECK(std::ranges::find(out, *page) == out.end());
        out.push_back(*page);
        break;
      }
      default: {
        if (out.empty()) break;
        const std::size_t which = below(static_cast<unsigned>(out.size()));
        pool.free(out[which]);
        out[which] = out.back();
        out.pop_back();
        if (reserve < min_nr) ++reserve;
        break;
      }
    }
    f.fault.disarm();
    REQUIRE_EQ(pool.available(), reserve);
    REQUIRE_EQ(pool.min_nr(), min_nr);
    if (step % 1000 == 0) CHECK_EQ(f.held(), before + reserve + out.size());
  }
  for (const Pfn page : out) pool.free(page);
  REQUIRE(pool.resize(0));
  CHECK_EQ(f.held(), before);
}

}  // namespace
}  // namespace cadastre
