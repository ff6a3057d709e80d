// The dirty log: which of a guest's pages were written, by it or for it.
#include <map>
#include <random>
#include <vector>

#include "mm/translation/stage2.hh"
#include "tests/unit/stage2_fixture.hh"

namespace cadastre {
namespace {

using Fixture = Stage2Fixture;

TEST_CASE("what the hypervisor writes is populated, private and marked dirty") {
  Fixture f;
  std::vector<std::uint32_t> words(DirtyLog::words_for(kGiB, 3));
  REQUIRE(f.stage2.start_log(kRam, kGiB, 3, words));
  const auto target = prepare_write(f.stage2, f.environment, kRam + 0x5010, f.ram);
  REQUIRE(target);
  CHECK(*target == f.at(0x5010).address);
  CHECK(f.stage2.dirty_log().is_dirty(kRam + 0x5000));
  CHECK_FALSE(f.stage2.dirty_log().is_dirty(kRam + 0x6000));
  CHECK(prepare_write(f.stage2, f.environment, kRam - 1, f.ram).error() == Error::kOutOfRange);
}

TEST_CASE("what the hypervisor writes is dirty, may the guest write it or not") {
  Fixture f;
  f.fault(0, Access::kWrite);
  f.fault(kPageSize, Access::kWrite);
  REQUIRE(f.stage2.table().protect(kRam + kPageSize, kPageSize,
                                   [](const auto& m) { return m.attributes.with_write(false); }));
  std::vector<std::uint32_t> words(DirtyLog::words_for(kBlockSize, 3));
  REQUIRE(f.stage2.start_log(kRam, kBlockSize, 3, words));
  // The first is not protected yet, the second never written by the guest: neither faults.
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{kPageSize}}) {
    REQUIRE(prepare_write(f.stage2, f.environment, kRam + offset, f.ram));
    CHECK(f.stage2.dirty_log().is_dirty(kRam + offset));
  }
}

TEST_CASE("a shared page that is written is dirty, whether it is copied or has no other user any more") {
  for (const unsigned users : {1U, 2U}) {
    Fixture f;
    f.fault(0, Access::kWrite);
    f.fault(kPageSize, Access::kWrite);
    std::vector<std::uint32_t> words(DirtyLog::words_for(kBlockSize, 3));
    REQUIRE(f.stage2.start_log(kRam, kBlockSize, 3, words));
    CHECK(f.stage2.protect_log_some(0, 1000) == kBlockSize);
    REQUIRE(f.stage2.share(kRam, 2 * kPageSize));
    f.environment.shared_[f.at(0).address.value()] = users;
    CHECK(f.fault(0, Access::kWrite) == FaultAnswer::kRetry);
    CHECK(f.at(0).attributes.writable());
    CHECK(f.stage2.dirty_log().is_dirty(kRam));
    CHECK_FALSE(f.stage2.dirty_log().is_dirty(kRam + kPageSize));
  }
}

TEST_CASE("a log protects its range in bounded steps and nothing beyond, and has no words beyond its end") {
  Fixture f;
  constexpr std::uint64_t kSize = 64 * kPageSize;
  for (std::uint64_t offset = 0; offset < 2 * kSize; offset += kPageSize) f.fault(offset, Access::kWrite);
  std::vector<std::uint32_t> words(DirtyLog::words_for(kSize, 3), ~0U);  // whatever was there
  REQUIRE(f.stage2.start_log(kRam, kSize, 3, words));
  unsigned steps = 0;
  for (std::uint64_t done = 0; done < kSize; ++steps) done = f.stage2.protect_log_some(done, 10);
  CHECK(steps >= 6);
  CHECK(f.stage2.protect_log_some(kSize, 10) == kSize);
  for (std::uint64_t offset = 0; offset < 2 * kSize; offset += kPageSize) {
    CHECK(f.at(offset).attributes.writable() == (offset >= kSize));
  }
  f.fault(0, Access::kWrite);
  std::vector<std::uint32_t> out(4, 42);
  CHECK(f.stage2.fetch_log(1, out) == 1);
  CHECK(f.stage2.fetch_log(2, out) == 0);
  CHECK(f.stage2.fetch_log(3, out) == 0);
  CHECK(out[0] == 0);
  CHECK(out[1] == 42);
  CHECK(f.stage2.fetch_log(0, out) == 2);
  CHECK(out[0] == 1);
  f.stage2.stop_log();
  f.fault(0, Access::kWrite);
  CHECK(f.stage2.fetch_log(0, out) == 0);
  CHECK_FALSE(f.stage2.dirty_log().is_dirty(kRam));
}

TEST_CASE("a write to what an old log still protects makes the block writable as it is") {
  Fixture f;
  f.ram.largest_level = 2;
  f.fault(0, Access::kWrite);
  std::vector<std::uint32_t> words(DirtyLog::words_for(kBlockSize, 3));
  REQUIRE(f.stage2.start_log(kRam, kBlockSize, 3, words));
  CHECK(f.stage2.protect_log_some(0, 10) == kBlockSize);
  f.stage2.stop_log();
  CHECK(f.fault(kPageSize, Access::kWrite) == FaultAnswer::kRetry);
  CHECK(f.at(0).level == 2);
  CHECK(f.at(0).attributes == Stage2Attributes::ram());
}

TEST_CASE("the dirty log says which pages were written since it was last asked, at either granularity") {
  for (const unsigned granularity : {2U, 3U}) {
    std::mt19937_64 random(test_seed());
    Fixture f;
    f.ram.largest_level = 2;
    f.ram.size = 24 * kBlockSize;
    REQUIRE(populate_some(f.stage2, f.environment, kRam, f.ram, 6));
    const std::uint64_t size = 20 * kBlockSize;  // the rest is not logged
    std::vector<std::uint32_t> words(DirtyLog::words_for(size, granularity));
    std::vector<std::uint32_t> out(words.size());
    REQUIRE(f.stage2.start_log(kRam, size, granularity, words));
    for (std::uint64_t done = 0; done < size;) done = f.stage2.protect_log_some(done, 100);
    const std::uint64_t granule = level_size(granularity);
    for (unsigned round = 0; round < 8; ++round) {
      std::vector<bool> expected(static_cast<std::size_t>(size / granule));
      for (unsigned i = 0; i < 200; ++i) {
        const std::uint64_t offset = random() % f.ram.size & ~7ULL;
        const bool write = random() % 2 == 0;
        const auto mapping = f.stage2.table().query(kRam + offset);
        // As the CPU would: no fault if there is a right.
        if (!mapping || (write && !mapping->attributes.writable())) {
          CHECK(f.fault(offset, write ? Access::kWrite : Access::kRead) == FaultAnswer::kRetry);
        }
        if (write) CHECK(f.at(offset).attributes.writable());
        if (write && offset < size) expected[static_cast<std::size_t>(offset / granule)] = true;
      }
      const unsigned flushes = f.environment.invalidations();
      std::size_t copied = 0;
      while (copied < out.size()) {
        const std::size_t step =
            f.stage2.fetch_log(copied, std::span(out).subspan(copied, std::min<std::size_t>(100, out.size() - copied)));
        REQUIRE(step > 0);
        copied += step;
      }
      CHECK(f.environment.invalidations() - flushes <= out.size() / 100 + 1);
      for (std::size_t i = 0; i < expected.size(); ++i) CHECK((out[i / 32] >> i % 32 & 1) == expected[i]);
    }
    f.stage2.stop_log();
    for (std::uint64_t done = 0; done < f.ram.size;) {
      const auto step = f.stage2.unprotect_some(kRam + done, f.ram.size - done, 500);
      REQUIRE(step);
      done += *step;
    }
    f.stage2.table().visit(kRam, f.ram.size,
                           [](IpaAddr, const auto& m) { CHECK(m.attributes == Stage2Attributes::ram()); });
  }
}

TEST_CASE("without a table for the split, a write to a logged block makes all of it dirty") {
  Fixture f;
  f.ram.largest_level = 2;
  f.fault(0, Access::kWrite);
  std::vector<std::uint32_t> words(DirtyLog::words_for(2 * kBlockSize, 3));
  REQUIRE(f.stage2.start_log(kRam, 2 * kBlockSize, 3, words));
  CHECK(f.stage2.protect_log_some(0, 10) == 2 * kBlockSize);
  f.environment.fail_after(0);
  CHECK(f.fault(kPageSize, Access::kWrite) == FaultAnswer::kRetry);
  CHECK(f.at(0).level == 2);
  CHECK(f.at(0).attributes.writable());
  std::vector<std::uint32_t> out(words.size());
  CHECK(f.stage2.fetch_log(0, out) == 32);
  for (unsigned i = 0; i < 32; ++i) CHECK(out[i] == (i < 16 ? ~0U : 0U));
  CHECK_FALSE(f.at(0).attributes.writable());
}

TEST_CASE("a log is refused what it cannot do") {
  Fixture f;
  std::vector<std::uint32_t> words(1);
  CHECK(f.stage2.start_log(kRam, kBlockSize, 1, words).error() == Error::kInvalid);
  CHECK(f.stage2.start_log(kRam, 0, 3, words).error() == Error::kInvalid);
  CHECK(f.stage2.start_log(kRam + kPageSize, kBlockSize, 2, words).error() == Error::kInvalid);
  CHECK(f.stage2.start_log(kRam, kBlockSize, 3, words).error() == Error::kLimit);
  REQUIRE(f.stage2.start_log(kRam, kBlockSize, 2, words));
  CHECK(f.stage2.start_log(kRam, kBlockSize, 2, words).error() == Error::kBusy);
  CHECK(f.stage2.unprotect_some(kRam + 1, kPageSize, 10).error() == Error::kInvalid);
}

TEST_CASE("in the background, what a log has split and protected goes back to writable blocks") {
  std::mt19937_64 random(test_seed());
  Fixture f;
  f.ram.largest_level = 2;
  f.ram.size = 40 * kBlockSize;
  REQUIRE(populate_some(f.stage2, f.environment, kRam, f.ram, 40));
  const unsigned tables = f.stage2.table().tables();
  CHECK_FALSE(f.stage2.merge_step(10, 2));  // nothing has happened
  std::vector<std::uint32_t> words(DirtyLog::words_for(f.ram.size, 3));
  REQUIRE(f.stage2.start_log(kRam, f.ram.size, 3, words));
  for (std::uint64_t done = 0; done < f.ram.size;) done = f.stage2.protect_log_some(done, 100);
  for (unsigned i = 0; i < 100; ++i) f.fault(random() % f.ram.size, Access::kWrite);
  CHECK(f.stage2.table().tables() > tables + 10);
  const auto at = [&](std::uint64_t offset) { return f.at(offset).address; };
  std::map<std::uint64_t, PhysAddr> before;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const std::uint64_t offset = random() % f.ram.size;
    before[offset] = at(offset);
  }

  CHECK_FALSE(f.stage2.merge_step(10, 2));  // the log still watches
  CHECK(f.stage2.table().tables() > tables + 10);
  f.stage2.stop_log();
  unsigned steps = 1;
  while (f.stage2.merge_step(3, 2)) ++steps;
  CHECK(steps >= 13);
  CHECK(f.stage2.table().tables() == tables);
  f.stage2.table().visit(kRam, f.ram.size, [](IpaAddr, const auto& m) {
    CHECK(m.attributes == Stage2Attributes::ram());
    CHECK(m.level == 2);
  });
  for (const auto& [offset, address] : before) CHECK(at(offset) == address);
  CHECK_FALSE(f.stage2.merge_step(3, 2));
}

}  // namespace
}  // namespace cadastre
