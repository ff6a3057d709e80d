// What a CHECK that fails does in every fuzz target.
#include <cstdlib>
#include <iostream>

#include "mm/base/check.hh"

namespace cadastre {

void check_failed(const char* condition, const char* file, int line) {
  std::cerr << file << ':' << line << ": CHECK failed: " << condition << '\n';
  std::abort();
}

}  // namespace cadastre
