#include "hyp/guest/loader.hh"

#include <algorithm>
#include <cstring>

#include "arch/armv7/cache.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/machine.hh"
#include "hyp/config/guest_dtb.hh"
#include "hyp/config/layout.hh"
#include "hyp/core/memory.hh"
#include "hyp/guest/guest_map.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/timers.hh"
#include "hyp/guest/vm.hh"
#include "mm/base/check.hh"
#include "mm/base/range.hh"

namespace cadastre {
namespace {

using arch::machine;

// Bytes that a step copies: a page costs some 1500 instructions, with its clean.
constexpr std::uint64_t kBytesPerStep = 8 * kPageSize;

// [done, done + size) of what the segment has in its file. What is beyond that is zero because all of a new guest's RAM is.
Result<> load_part(Vm& vm, const GuestSegment& segment, std::uint64_t done, std::uint64_t size) {
  const IpaAddr target = segment.target.base + done;
  return for_each_piece(segment.source + done, size, [&](PhysAddr from, std::size_t before, std::size_t part) {
    const std::byte* page = machine.kmap(frame_of(from));
    const Result<> written = vm.memory().write(target + before, std::span(page + from.offset_in(kPageSize), part));
    machine.kunmap(page);
    return written;
  });
}

// [ARMv7 B4.1.105] The part number of Cortex-A7; the A15 is what is left.
std::string_view cpu_compatible() {
  constexpr std::uint32_t kCortexA7 = 0xc07;
  const std::uint32_t part = (arch::MIDR::read() >> 4) & 0xfff;
  return part == kCortexA7 ? "arm,cortex-a7" : "arm,cortex-a15";
}

constexpr unsigned kDtbOrder = 2;
static_assert(kGuestDtbRoom == kPageSize << kDtbOrder);

Result<> load_dtb(Vm& vm, const GuestPlan& plan) {
  const IpaRange& place = plan.layout.dtb;
  const Result<Pfn> scratch = memory.pages.alloc(kDtbOrder);
  if (!scratch) return std::unexpected(scratch.error());
  const std::span<std::byte> room(machine.linear(address_of(*scratch)), kGuestDtbRoom);
  const GuestDtb description{.memory = plan.memory,
                             .cpus = plan.cpus,
                             .cpu_compatible = cpu_compatible(),
                             .bootargs = plan.bootargs.view(),
                             .initrd = plan.layout.initrd,
                             .timer_frequency = counts_per_second() == arch::CNTFRQ::read() ? 0 : counts_per_second()};
  const Result<> done = write_guest_dtb(room, description).and_then([&](std::size_t size) {
    return vm.memory().write(place.base, room.first(size));
  });
  memory.pages.free(*scratch, kDtbOrder);
  return done;
}

}  // namespace

// The last step is the device tree's, in a place that was made ready by those before it.
Result<bool> Loader::step(Vm& vm, const GuestPlan& plan) {
  if (segment_ == plan.layout.segments.size()) {
    if (dtb_has_place_) {
      arch::invalidate_instruction_caches();
      return load_dtb(vm, plan).transform([] { return false; });
    }
    const Result<std::uint64_t> ready = vm.memory().prepare_write_some(plan.layout.dtb.base, kGuestDtbRoom);
    if (!ready) return std::unexpected(ready.error());
    dtb_has_place_ = *ready == kGuestDtbRoom;
    return true;
  }
  const GuestSegment& segment = plan.layout.segments[segment_];
  const Result<std::uint64_t> ready =
      vm.memory().prepare_write_some(segment.target.base + done_, std::min(segment.source_size - done_, kBytesPerStep));
  if (!ready) return std::unexpected(ready.error());
  const std::uint64_t size = *ready;
  if (const Result<> done = load_part(vm, segment, done_, size); !done) return std::unexpected(done.error());
  done_ += size;
  if (done_ == segment.source_size) {
    ++segment_;
    done_ = 0;
  }
  return true;
}

void MappedReader::read(PhysAddr from, std::span<std::byte> to) {
  for_each_piece(from, to.size(), [&](PhysAddr at, std::size_t before, std::size_t part) {
    const std::byte* page = machine.kmap(frame_of(at));
    std::memcpy(to.data() + before, page + at.offset_in(kPageSize), part);
    machine.kunmap(page);
  });
}

}  // namespace cadastre
