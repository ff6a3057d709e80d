#include "mm/translation/stage2.hh"

#include <algorithm>
#include <array>
#include <vector>

#include "tests/unit/stage2_fixture.hh"

namespace cadastre {
namespace {

using Fixture = Stage2Fixture;

TEST_CASE("a fault on a fresh page maps one zeroed frame of the zone, and no TLB is touched") {
  Fixture f;
  CHECK(f.fault(0x1234, Access::kRead) == FaultAnswer::kRetry);
  CHECK(f.at(0x1234).level == 3);
  CHECK(f.at(0x1234).attributes == Stage2Attributes::ram());
  CHECK(f.environment.owned_.size() == 1);
  CHECK(f.environment.invalidations() == 0);
  // The other CPU that faulted on it too just retries.
  CHECK(f.fault(0x1ffc, Access::kWrite) == FaultAnswer::kRetry);
  CHECK(f.environment.owned_.size() == 1);
}

TEST_CASE("a fault outside of the guest's RAM is not served") {
  Fixture f;
  CHECK(serve_fault(f.stage2, f.environment, kRam - 1, Access::kRead, f.ram).error() == Error::kOutOfRange);
  CHECK(serve_fault(f.stage2, f.environment, kRam + kGiB, Access::kRead, f.ram).error() == Error::kOutOfRange);
  CHECK(f.environment.owned_.empty());
}

TEST_CASE("a fault is served with the largest block that policy, range and zone allow") {
  Fixture f;
  f.ram.largest_level = 1;
  f.ram.size = kGiB + 3 * kPageSize;
  f.fault(5, Access::kRead);
  CHECK(f.at(0).level == 1);
  f.fault(kGiB, Access::kRead);
  CHECK(f.at(kGiB).level == 3);
  Fixture g;
  g.ram.largest_level = 1;
  g.environment.largest_ = 2;
  g.fault(5 * kBlockSize + 7, Access::kWrite);
  CHECK(g.at(5 * kBlockSize).level == 2);
  g.environment.largest_ = 3;
  g.fault(6 * kBlockSize, Access::kWrite);
  CHECK(g.at(6 * kBlockSize).level == 3);
  g.environment.largest_ = 2;
  g.fault(6 * kBlockSize + kPageSize, Access::kWrite);  // a page is there already
  CHECK(g.at(6 * kBlockSize + kPageSize).level == 3);
  Fixture h;
  h.ram = {kRam, kBlockSize - kPageSize, 1};  // less than a block
  h.fault(0, Access::kWrite);
  CHECK(h.at(0).level == 3);
}

TEST_CASE("without a frame or a table the fault fails, and nothing has changed") {
  Fixture f;
  f.environment.frames_left_ = 0;
  CHECK(serve_fault(f.stage2, f.environment, kRam, Access::kRead, f.ram).error() == Error::kNoMemory);
  f.environment.frames_left_ = 5;
  f.stage2.table().set_table_limit(1);
  CHECK(serve_fault(f.stage2, f.environment, kRam, Access::kRead, f.ram).error() == Error::kLimit);
  CHECK(f.environment.owned_.empty());
  CHECK(f.environment.allocated() == 0);
  Stage2<GuestFrames> small(f.environment, LoggingTables::kRoot, 1);
  CHECK(serve_fault(small, f.environment, kRam, Access::kRead, f.ram).error() == Error::kLimit);
}

template <class T>
Result<> without_value(const Result<T>& result) {
  if (!result) return std::unexpected(result.error());
  return {};
}

TEST_CASE("when the Nth table or frame is missing, no operation of a guest's memory changes what it maps") {
  using Operation = Result<> (*)(Fixture& f);
  // After a block at 0, shared pages at 2 MiB, and nothing at 1 GiB - 2 MiB.
  constexpr Operation kOperations[] = {
      [](Fixture& f) {
        return without_value(serve_fault(f.stage2, f.environment, kRam + (kGiB - kPageSize), Access::kWrite, f.ram));
      },
      [](Fixture& f) {
        return without_value(
            serve_fault(f.stage2, f.environment, kRam + kBlockSize + kPageSize, Access::kWrite, f.ram));
      },
      [](Fixture& f) {
        return without_value(prepare_write(f.stage2, f.environment, kRam + (kGiB - kBlockSize), f.ram));
      },
      [](Fixture& f) { return without_value(prepare_write(f.stage2, f.environment, kRam + kBlockSize, f.ram)); },
      [](Fixture& f) { return f.stage2.share(kRam + kPageSize, kPageSize); },
      [](Fixture& f) { return f.stage2.table().unmap(kRam + 3 * kPageSize, kPageSize); },
      [](Fixture& f) { return without_value(f.stage2.unprotect_some(kRam + kPageSize, kPageSize, 10)); },
      [](Fixture& f) {
        return f.stage2.table().map(IpaAddr(0x800'0000), PhysAddr(0x900'0000), kPageSize, Stage2Attributes::device());
      },
  };
  for (const Operation operation : kOperations) {
    for (const bool tables : {true, false}) {
      for (unsigned left = 0;; ++left) {
        REQUIRE_LT(left, 5);
        Fixture f;
        f.ram.largest_level = 2;
        f.fault(0, Access::kWrite);
        f.fault(kBlockSize, Access::kWrite);
        f.ram.largest_level = kLastLevel;
        REQUIRE(f.stage2.share(kRam + kBlockSize, kBlockSize));
        for (unsigned i = 0; i < 512; ++i)
          f.environment.shared_[(f.at(kBlockSize).address + i * kPageSize).value()] = 2;
        const auto leaves = [&] {
          std::vector<std::array<std::uint64_t, 3>> all;
          f.stage2.table().visit(IpaAddr(0), Stage2<GuestFrames>::kInputSize, [&](IpaAddr ipa, const auto& mapping) {
            all.push_back({ipa.value(), mapping.address.value(), mapping.attributes.bits()});
          });
          return all;
        };
        const auto leaf_of = [&](std::uint64_t ipa) { return f.stage2.table().query(IpaAddr(ipa)); };
        const auto before = leaves();
        const auto owned = f.environment.owned_;
        if (tables) {
          f.environment.fail_after(left);
        } else {
          f.environment.frames_left_ = left;
        }
        const Result<> done = operation(f);
        CHECK(f.environment.allocated() == f.stage2.table().tables());
        if (done) break;
        CHECK(done.error() == Error::kNoMemory);
        CHECK(f.environment.owned_ == owned);
        // A block may have been split on the way: the same pages are mapped the same way.
        for (const auto& [ipa, physical, attributes] : before) {
          for (std::uint64_t offset = 0; offset < kBlockSize; offset += kPageSize) {
            const auto mapping = leaf_of(ipa + offset);
            REQUIRE(mapping);
            REQUIRE(mapping->address.value() == physical + offset);
            REQUIRE(mapping->attributes.bits() == attributes);
          }
        }
        std::uint64_t mapped = 0;
        f.stage2.table().visit(IpaAddr(0), Stage2<GuestFrames>::kInputSize,
                               [&](IpaAddr, const auto& mapping) { mapped += mapping.size(); });
        CHECK(mapped == 2 * kBlockSize);
      }
    }
  }
}

TEST_CASE("eager population in steps fills all of RAM, around what is there") {
  Fixture f;
  f.ram.size = 3 * kBlockSize + 5 * kPageSize;
  f.fault(kBlockSize + 0x5000, Access::kWrite);
  const PhysAddr kept = f.at(kBlockSize + 0x5000).address;
  f.ram.largest_level = 2;
  std::uint64_t done = 0;
  while (done < f.ram.size) {
    const std::size_t before = f.environment.owned_.size();
    const auto step = populate_some(f.stage2, f.environment, kRam + done, f.ram, 100);
    REQUIRE(step);
    CHECK(f.environment.owned_.size() - before <= 100);
    REQUIRE(*step > 0);
    done += *step;
  }
  CHECK(done == f.ram.size);
  CHECK(f.environment.owned_.size() == 2 + 512 + 5);
  CHECK(f.at(kBlockSize + 0x5000).address == kept);
  f.environment.frames_left_ = 0;
  f.ram.size += kPageSize;
  CHECK(populate_some(f.stage2, f.environment, kRam + done, f.ram, 100).error() == Error::kNoMemory);
}

TEST_CASE("teardown hands over every frame once, in bounded steps, and frees all tables") {
  Fixture f;
  f.ram.largest_level = 2;
  for (unsigned i = 0; i < 700; ++i) {
    f.environment.largest_ = i % 50 == 0 ? 2 : 3;
    f.fault(i * 97 * kPageSize, Access::kWrite);
  }
  REQUIRE(f.stage2.table().map(IpaAddr(0x800'0000), PhysAddr(0x800'0000), 0x2000, Stage2Attributes::device()));
  std::uint64_t from = 0;
  unsigned devices = 0;
  unsigned steps = 0;
  while (from < Stage2<GuestFrames>::kInputSize) {
    unsigned leaves = 0;
    from = f.stage2.release_some(from, 64, [&](IpaAddr, const auto& mapping) {
      ++leaves;
      if (mapping.attributes.memory() == Stage2Memory::kDevice) {
        ++devices;
      } else {
        f.environment.free_frame(mapping.address, mapping.level);
      }
    });
    CHECK(leaves <= 64 + 511);
    ++steps;
  }
  CHECK(steps > 2);
  CHECK(devices == 2);
  CHECK(f.environment.owned_.empty());
  CHECK(f.environment.allocated() == 0);
}

TEST_CASE("a guest may not write what is read-only, nor execute what is execute-never") {
  Fixture f;
  f.fault(0, Access::kRead);
  REQUIRE(f.stage2.table().protect(kRam, kPageSize, [](const auto& m) { return m.attributes.with_write(false); }));
  CHECK(f.fault(0, Access::kWrite) == FaultAnswer::kDenied);
  CHECK(f.fault(0, Access::kExecute) == FaultAnswer::kRetry);
  REQUIRE(f.stage2.table().protect(kRam, kPageSize, [](const auto& m) { return m.attributes.with_execute(false); }));
  CHECK(f.fault(0, Access::kExecute) == FaultAnswer::kDenied);
  CHECK(f.fault(0, Access::kRead) == FaultAnswer::kRetry);
}

TEST_CASE("a shared page that may not be executed is not copied for a guest that tries") {
  Fixture f;
  f.fault(0, Access::kWrite);
  REQUIRE(f.stage2.table().protect(kRam, kPageSize, [](const auto& m) { return m.attributes.with_execute(false); }));
  REQUIRE(f.stage2.share(kRam, kPageSize));
  CHECK(f.fault(0, Access::kExecute) == FaultAnswer::kDenied);
  CHECK(f.at(0).attributes.copy_on_write());
}

TEST_CASE("a shared page is copied by the first write, and becomes private when its last user writes") {
  Fixture f;
  f.ram.largest_level = 2;
  f.fault(0, Access::kWrite);
  const PhysAddr block = f.at(0).address;
  REQUIRE(f.stage2.share(kRam + kPageSize, 2 * kPageSize));
  f.environment.shared_[(block + kPageSize).value()] = 2;
  f.environment.shared_[(block + 2 * kPageSize).value()] = 1;
  CHECK(f.fault(kPageSize, Access::kRead) == FaultAnswer::kRetry);
  CHECK(f.at(kPageSize).address == block + kPageSize);
  f.environment.start_log();
  CHECK(f.fault(kPageSize + 8, Access::kWrite) == FaultAnswer::kRetry);
  CHECK(f.environment.story() == "S0 C D I D S C D");
  CHECK(f.environment.copies_.at(f.at(kPageSize).address.value()) == block + kPageSize);
  CHECK(f.at(kPageSize).attributes == Stage2Attributes::ram());
  CHECK(f.environment.shared_[(block + kPageSize).value()] == 1);
  CHECK(f.fault(2 * kPageSize, Access::kWrite) == FaultAnswer::kRetry);
  CHECK(f.at(2 * kPageSize).address == block + 2 * kPageSize);
  CHECK(f.at(2 * kPageSize).attributes == Stage2Attributes::ram());
}

TEST_CASE("copy on write without memory changes nothing, and works once there is some") {
  Fixture f;
  f.ram.largest_level = 2;
  f.fault(0, Access::kWrite);
  REQUIRE(f.stage2.share(kRam, kBlockSize));
  const PhysAddr block = f.at(0).address;
  for (unsigned i = 0; i < 512; ++i) f.environment.shared_[(block + i * kPageSize).value()] = 2;
  f.environment.fail_after(0);
  CHECK(serve_fault(f.stage2, f.environment, kRam, Access::kWrite, f.ram).error() == Error::kNoMemory);
  f.environment.never_fail();
  f.environment.frames_left_ = 0;
  CHECK(serve_fault(f.stage2, f.environment, kRam, Access::kWrite, f.ram).error() == Error::kNoMemory);
  CHECK(f.at(0).address == block);
  CHECK_FALSE(f.at(0).attributes.writable());
  f.environment.frames_left_ = 1;
  CHECK(f.fault(0, Access::kWrite) == FaultAnswer::kRetry);
  CHECK(f.at(0).address != block);
  CHECK(f.at(kPageSize).address == block + kPageSize);
}

TEST_CASE("merging in the background makes blocks of what was split, up to 1 GiB") {
  Fixture f;
  f.ram.largest_level = 1;
  f.fault(0, Access::kRead);
  REQUIRE(f.stage2.table().split(kRam + 3 * kBlockSize));
  REQUIRE(f.stage2.table().split(kRam + kGiB - 1));
  CHECK(f.stage2.table().tables() == 3);
  unsigned steps = 0;
  for (std::uint64_t at = 0; at < Stage2<GuestFrames>::kInputSize; ++steps) at = f.stage2.merge_some(at, 10);
  CHECK(steps >= 51);
  CHECK(f.at(0).level == 1);
  CHECK(f.stage2.table().tables() == 0);
}

TEST_CASE("in the background, nothing gets larger than the policy wants") {
  for (const unsigned largest : {1U, 2U, 3U}) {
    Fixture f;
    f.ram.largest_level = 1;
    f.fault(0, Access::kRead);
    REQUIRE(f.stage2.table().split(kRam + 3 * kBlockSize));
    f.stage2.stop_log();
    for (unsigned steps = 0; f.stage2.merge_step(100, largest); ++steps) REQUIRE(steps < 10);
    CHECK(f.at(3 * kBlockSize).level == largest);
    CHECK(f.at(2 * kBlockSize).level == std::min(largest, 2U));
  }
}

TEST_CASE("a page that has no other user any more merges with its block") {
  Fixture f;
  f.ram.largest_level = 2;
  f.fault(0, Access::kWrite);
  REQUIRE(f.stage2.share(kRam, kBlockSize));
  for (std::uint64_t page = 0; page < kBlockSize; page += kPageSize) {
    f.environment.shared_[f.at(page).address.value()] = 1;
    CHECK(f.fault(page, Access::kWrite) == FaultAnswer::kRetry);
  }
  CHECK(f.at(0).level == 3);
  while (f.stage2.merge_step(1, 2)) {
  }
  CHECK(f.at(0).level == 2);
  CHECK(f.at(0).attributes == Stage2Attributes::ram());
}

TEST_CASE("visiting in steps sees every leaf once") {
  Fixture f;
  for (unsigned i = 0; i < 100; ++i) f.fault(i * 13 * kPageSize, Access::kRead);
  unsigned seen = 0;
  for (std::uint64_t at = 0; at < Stage2<GuestFrames>::kInputSize;) {
    const unsigned before = seen;
    at = f.stage2.visit_some(at, 7, [&](IpaAddr, const auto& m) {
      CHECK(f.environment.owned_.contains(m.address.value()));
      ++seen;
    });
    CHECK(seen - before <= 7);
  }
  CHECK(seen == 100);
}

}  // namespace
}  // namespace cadastre
