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
#include "hyp/guest/vm.hh"
#include "mm/base/check.hh"

namespace cadastre {
namespace {

using arch::machine;

// Calls f(bytes) for each piece of [from, from + size) that lies in one page.
template <class F>
Result<> for_each_piece(PhysAddr from, std::uint64_t size, F&& f) {
  while (size != 0) {
    const auto offset = static_cast<std::size_t>(from.offset_in(kPageSize));
    const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(size, kPageSize - offset));
    const std::byte* page = machine.kmap(frame_of(from));
    const Result<> done = f(std::span(page + offset, part));
    machine.kunmap(page);
    if (!done) return done;
    from += part;
    size -= part;
  }
  return {};
}

// What is beyond the file's bytes is zero because all of a new guest's RAM is.
Result<> load_segment(Vm& vm, const GuestSegment& segment) {
  IpaAddr target = segment.target.base;
  return for_each_piece(segment.source, segment.source_size, [&](std::span<const std::byte> bytes) {
    const Result<> done = vm.memory().write(target, bytes);
    target += bytes.size();
    return done;
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
  const Result<Pfn> scratch = memory.pages.alloc(kDtbOrder);
  if (!scratch) return std::unexpected(scratch.error());
  const std::span<std::byte> room(machine.linear(address_of(*scratch)), kGuestDtbRoom);
  const GuestDtb description{.memory = plan.memory,
                             .cpus = plan.cpus,
                             .cpu_compatible = cpu_compatible(),
                             .bootargs = plan.bootargs.view(),
                             .initrd = plan.layout.initrd};
  const Result<> done = write_guest_dtb(room, description).and_then([&](std::size_t size) {
    return vm.memory().write(plan.layout.dtb.base, room.first(size));
  });
  memory.pages.free(*scratch, kDtbOrder);
  return done;
}

}  // namespace

Result<> load_guest(Vm& vm, const GuestPlan& plan) {
  for (const GuestSegment& segment : plan.layout.segments) {
    if (const Result<> done = load_segment(vm, segment); !done) return done;
  }
  if (const Result<> done = load_dtb(vm, plan); !done) return done;
  arch::invalidate_instruction_caches();
  return {};
}

void MappedReader::read(PhysAddr from, std::span<std::byte> to) {
  std::byte* target = to.data();
  const Result<> done = for_each_piece(from, to.size(), [&](std::span<const std::byte> bytes) -> Result<> {
    std::memcpy(target, bytes.data(), bytes.size());
    target += bytes.size();
    return {};
  });
  CHECK(done.has_value());  // copying does not fail
}

}  // namespace cadastre
