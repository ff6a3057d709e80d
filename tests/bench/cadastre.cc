// The page allocator and the slab allocator, over RAM that the host gives. Threads are CPUs.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

#include "mm/boot/memblock.hh"
#include "mm/frames/page_allocator.hh"
#include "mm/objects/slab.hh"
#include "tests/bench/patterns.hh"

namespace cadastre {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: CHECK(%s)\n", file, line, condition);
  std::abort();
}

namespace bench {
namespace {

// As on the target: the linear map is an addition, the CPU's number is at hand.
class HostMachine {
 public:
  static constexpr PhysAddr kBase{kMemory};

  HostMachine() {
    void* mapping =
        mmap(nullptr, 2 * kMemory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) std::abort();
    const auto address = reinterpret_cast<std::uintptr_t>(mapping);
    bytes_ = static_cast<std::byte*>(mapping) + (-address & (kMemory - 1));
  }
  static inline thread_local unsigned current_cpu = 0;
  static unsigned cpu() { return current_cpu; }
  std::byte* linear(PhysAddr address) { return bytes_ + (address - kBase); }
  PhysAddr linear_address(const void* pointer) {
    return kBase + static_cast<std::uint64_t>(static_cast<const std::byte*>(pointer) - bytes_);
  }
  static Pfn high_memory() { return frame_of(PhysAddr(4 * kMemory)); }
  std::byte* kmap(Pfn frame) { return linear(address_of(frame)); }
  static void kunmap(const std::byte* /*bytes*/) {}

 private:
  std::byte* bytes_;
};
static_assert(Machine<HostMachine>);

struct {
  HostMachine machine;
  Memblock memblock;
  PageAllocator<HostMachine> pages{machine};
  SlabAllocator<HostMachine> slabs{pages};
  std::array<ObjectCache*, kSizes.size()> caches{};

  void init() {
    CHECK(memblock.add(HostMachine::kBase, kMemory, 0));
    CHECK(pages.init(memblock));
    pages.release(memblock);
    CHECK(slabs.init());
    for (std::size_t i = 0; i < kSizes.size(); ++i) caches[i] = *slabs.create({.name = "bench", .size = kSizes[i]});
  }
} memory;

struct Cadastre {
  using Block = Pfn;
  static void enter(unsigned thread) { HostMachine::current_cpu = thread; }
  static Pfn get_block(unsigned order) { return *memory.pages.alloc(order); }
  static void put_block(Pfn block, unsigned order) { memory.pages.free(block, order); }
  static void* get(std::size_t size) { return *memory.slabs.kmalloc(size); }
  static void put(std::size_t /*size*/, void* object) { memory.slabs.kfree(object); }
  static ObjectCache* cache(std::size_t size) {
    return memory.caches[static_cast<std::size_t>(std::ranges::find(kSizes, size) - kSizes.begin())];
  }
  static void* get(ObjectCache* cache) { return *memory.slabs.alloc(*cache); }
  static void put(ObjectCache* cache, void* object) { memory.slabs.free(*cache, object); }
};

}  // namespace
}  // namespace bench
}  // namespace cadastre

int main(int argc, char** argv) {
  using namespace cadastre::bench;
  benchmark::AddCustomContext("allocator", "cadastre");
  benchmark::Initialize(&argc, argv);
  memory.init();
  register_patterns<Cadastre>();
  benchmark::RunSpecifiedBenchmarks();
}
