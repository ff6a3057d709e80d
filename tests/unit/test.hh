// doctest, and the seed that random tests share. Included after the project's headers: doctest's CHECK takes
// the place of theirs, which is expanded by then.
#pragma once

#include <cstdint>

#include "mm/base/check.hh"

#undef CHECK
#include <doctest/doctest.h>

namespace cadastre {

// The seed of this run's random tests: CADASTRE_SEED, or a fresh one; printed at the start.
std::uint64_t test_seed();

}  // namespace cadastre
