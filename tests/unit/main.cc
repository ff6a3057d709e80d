// The unit tests' program: doctest's runner, and a seed that every random test shares.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>
#include <cstdlib>
#include <random>

#include "tests/unit/test.hh"

namespace cadastre {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, condition);
  std::abort();
}

std::uint64_t test_seed() {
  static const std::uint64_t seed = [] {
    const char* text = std::getenv("CADASTRE_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 0) : std::uint64_t{std::random_device{}()};
  }();
  return seed;
}

}  // namespace cadastre

int main(int argc, char** argv) {
  std::printf("seed: CADASTRE_SEED=%llu\n", static_cast<unsigned long long>(cadastre::test_seed()));
  return doctest::Context(argc, argv).run();
}
