// Whatever malloc this process has: the C library's, or the one that LD_PRELOAD names.
#include <cstdlib>

#include "tests/bench/patterns.hh"

// Those that can be told apart by what they have beside malloc.
extern "C" {
[[gnu::weak]] int mallctl(const char*, void*, std::size_t*, void*, std::size_t);
[[gnu::weak]] int mi_version();
}

namespace cadastre::bench {
namespace {

struct Malloc {
  using Block = void*;
  static void enter(unsigned /*thread*/) {}
  static void* get_block(unsigned order) { return std::aligned_alloc(kPageBytes, kPageBytes << order); }
  static void put_block(void* block, unsigned /*order*/) { std::free(block); }
  static void* get(std::size_t size) { return std::malloc(size); }
  static std::size_t cache(std::size_t size) { return size; }
  static void put(std::size_t /*size*/, void* object) { std::free(object); }
};

}  // namespace
}  // namespace cadastre::bench

int main(int argc, char** argv) {
  benchmark::AddCustomContext("allocator", mi_version != nullptr ? "mimalloc"
                                           : mallctl != nullptr  ? "jemalloc"
                                                                 : "malloc");
  benchmark::Initialize(&argc, argv);
  cadastre::bench::register_patterns<cadastre::bench::Malloc>();
  benchmark::RunSpecifiedBenchmarks();
}
