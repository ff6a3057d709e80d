#include "tests/model/oracle.hh"

#include <random>
#include <set>
#include <string>

#include "tests/unit/random_runs.hh"
#include "tests/unit/test.hh"

namespace cadastre::model {
namespace {

struct Run {
  explicit Run(std::uint64_t seed, unsigned small_level, unsigned cpus)
      : random(seed), oracle([this](std::uint64_t n) { return random() % n; }, {small_level}, cpus) {}
  std::mt19937_64 random;
  Oracle oracle;
};

TEST_CASE("whatever is done to stage 2, translation, TLBs and frames are as intended") {
  run_randomly(random_operations(200'000), 2000, [](const Decide& decide, std::uint64_t run) {
    const unsigned small_level = run % 4 == 3 ? 2 : kLastLevel;
    return Oracle(decide, {small_level}, static_cast<unsigned>(1 + run / 4 % 8));
  });
}

// Runs with one call left out of each operation of one kind until the oracle objects; whether it did, and how often
// there was such a call to leave out.
struct Verdict {
  bool seen = false;
  unsigned hits = 0;
};
Verdict try_mutation(Mutation mutation, std::uint64_t seed) {
  Verdict verdict;
  // One attempt tells that there is no such call; a rare one may need more to do harm.
  for (unsigned attempt = 0; attempt < 12 && !verdict.seen; ++attempt) {
    if (attempt == 2 && verdict.hits == 0) break;
    Run run(seed + attempt, kLastLevel, 4);
    try {
      for (unsigned i = 0; i < 100; ++i) run.oracle.step();  // something to work on
      run.oracle.machine().set_mutation(mutation);
      for (unsigned i = 0; i < 200; ++i) {
        // Often the operation that has the fault, between others.
        if (i % 2 == 0) {
          run.oracle.run(static_cast<Operation>(mutation.operation), i / 2 % Machine::kGuests);
        } else {
          run.oracle.step();
        }
      }
    } catch (const Violation&) {
      verdict.seen = true;
    }
    verdict.hits += run.oracle.machine().mutation().hits;
  }
  return verdict;
}

TEST_CASE("the oracle sees each barrier, invalidation, clean, break and scrub that is left out") {
  using Kind = Mutation::Kind;
  static constexpr Kind kKinds[] = {Kind::kDsb,   Kind::kInvalidate, Kind::kLocalInvalidate,
                                    Kind::kClean, Kind::kBreak,      Kind::kScrub};
  std::mt19937_64 seeds(test_seed());
  // The emulated CPU of the cross build has the time for the first of each.
  const unsigned positions = sizeof(void*) == 8 ? 6 : 1;
  unsigned tried = 0;
  std::set<Kind> kinds;
  for (const Kind kind : kKinds) {
    for (unsigned operation = 0; operation < kOperations; ++operation) {
      for (unsigned position = 0; position < positions; ++position) {
        const Verdict verdict = try_mutation({.kind = kind, .position = position, .operation = operation}, seeds());
        if (verdict.hits == 0) break;  // no operation of this kind has so many such calls
        INFO("kind " << static_cast<unsigned>(kind) << " operation " << operation << " position " << position
                     << " hits " << verdict.hits);
        CHECK(verdict.seen);
        kinds.insert(kind);
        ++tried;
      }
    }
  }
  CHECK(kinds.size() == std::size(kKinds));
  CHECK(tried > 10 * positions);
}

// All operations; merges, which seldom find anything, more often.
void work(Oracle& oracle) {
  for (unsigned step = 0; step < 1000; ++step) {
    oracle.step();
    if (step % 4 == 0) oracle.run(Operation::kMerge, step / 4 % Machine::kGuests);
  }
}

TEST_CASE("the oracle sees each call of a barrier, invalidation or clean in the code when it is left out") {
  std::mt19937_64 seeds(test_seed());
  Machine::Sites sites;
  const unsigned runs = sizeof(void*) == 8 ? 16 : 4;
  for (unsigned i = 0; i < runs; ++i) {
    Run run(seeds(), kLastLevel, 4);
    run.oracle.machine().sites();
    work(run.oracle);
    sites.merge(run.oracle.machine().sites());
  }
  for (const auto& [kind, site] : sites) {
    bool seen = false;
    // Two CPUs at least: what reaches one may not reach the other.
    for (unsigned attempt = 0; attempt < 40 && !seen; ++attempt) {
      Run run(seeds(), kLastLevel, 2 + attempt % 7);
      run.oracle.machine().set_mutation({.kind = kind, .site = site});
      try {
        work(run.oracle);
      } catch (const Violation&) {
        seen = true;
      }
    }
    INFO("kind ", static_cast<unsigned>(kind), " at ", std::string(site.file), ":", site.line);
    CHECK(seen);
  }
  // Ten waits, four cleans and the invalidation, on all CPUs or one. More calls ask for more here.
  CHECK(sites.size() >= (sizeof(void*) == 8 ? 16 : 12));
}

}  // namespace
}  // namespace cadastre::model
