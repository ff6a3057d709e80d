#include <array>
#include <bit>
#include <cstdint>
#include <string_view>

#include "arch/armv7/machine.hh"
#include "hyp/check/bench.hh"
#include "hyp/check/bench_count.hh"
#include "hyp/core/memory.hh"
#include "hyp/guest/guest_memory.hh"
#include "mm/base/check.hh"
#include "mm/translation/stage2.hh"

namespace cadastre {
namespace {

using bench::measure;
using Tables = Stage2<GuestOperations>;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
// Frames that the tables name and nobody reaches through them.
constexpr IpaAddr kIpa(kGiB);
constexpr PhysAddr kFrames(kGiB);

constexpr unsigned kManyTables = 1024;
constexpr unsigned kRootOrder = std::countr_zero(Tables::kRootBytes) - kPageShift;

// A guest's stage 2 with all that belongs to it but the guest. It has a VMID, so that its TLB invalidations are the real ones;
// the allocator of numbers is its own, as no guest has one yet.
class IdleStage2 {
 public:
  explicit IdleStage2(Pfn root) : root_(root), stage2_(environment_, address_of(root), kManyTables) {
    static_cast<void>(vmids_.activate(arch::machine.cpu(), environment_.vmid()));
  }
  ~IdleStage2() { memory.pages.free(root_, kRootOrder); }
  IdleStage2(const IdleStage2&) = delete;
  IdleStage2& operator=(const IdleStage2&) = delete;
  Tables& stage2() { return stage2_; }

 private:
  VmidAllocator vmids_;
  GuestOperations environment_;
  Pfn root_;
  Tables stage2_;
};

void measure_mapping(Tables::Table& table, std::string_view map, std::string_view unmap, unsigned level) {
  measure(map, 1, [&] { CHECK(table.map(kIpa, kFrames, kGiB, Stage2Attributes::ram(), level)); });
  // The leaves are seen, as whoever gives their frames back does.
  std::uint64_t bytes = 0;
  measure(unmap, 1, [&] {
    CHECK(table.unmap(kIpa, kGiB, [&](IpaAddr, const Tables::Mapping& mapping) { bytes += mapping.size(); }));
  });
  CHECK(bytes == kGiB);
}

void measure_blocks(Tables::Table& table) {
  CHECK(table.map(kIpa, kFrames, kBlockSize, Stage2Attributes::ram()));
  measure("split of a block of 2 MiB", 1, [&] { CHECK(table.split(kIpa)); });
  measure("merge of a block of 2 MiB", 1, [&] { CHECK(table.merge(kIpa, 2)); });
  CHECK(table.unmap(kIpa, kBlockSize));
}

void measure_dirty_log(Tables& stage2) {
  constexpr std::uint64_t kSize = std::uint64_t{128} << 20;
  constexpr std::size_t kWords = DirtyLog::words_for(kSize, kLastLevel);
  // Static for its size.
  static std::array<std::uint32_t, kWords> words;
  static std::array<std::uint32_t, kWords> fetched;
  CHECK(stage2.table().map(kIpa, kFrames, kSize, Stage2Attributes::ram(), kLastLevel));
  CHECK(stage2.start_log(kIpa, kSize, kLastLevel, words));
  const auto fetch = [&] { CHECK(stage2.fetch_log(0, fetched) == kWords); };
  measure("dirty-log fetch of 128 MiB, none dirty", 1, fetch);
  // The log begins with everything writable: that is all dirty.
  words.fill(~0U);
  measure("dirty-log fetch of 128 MiB, all dirty", 1, fetch);
  stage2.stop_log();
  CHECK(stage2.table().unmap(kIpa, kSize));
}

}  // namespace

void bench_tables() {
  const Result<Pfn> root = memory.pages.alloc(kRootOrder, kZero);
  if (!root) return;
  IdleStage2 guest(*root);
  Tables::Table& table = guest.stage2().table();
  measure_mapping(table, "map 1 GiB by 4 KiB", "unmap 1 GiB by 4 KiB", 3);
  measure_mapping(table, "map 1 GiB by 2 MiB", "unmap 1 GiB by 2 MiB", 2);
  measure_mapping(table, "map 1 GiB by 1 GiB", "unmap 1 GiB by 1 GiB", 1);
  measure_blocks(table);
  measure_dirty_log(guest.stage2());
}

}  // namespace cadastre
