// Any bytes as a device tree with guests, and what follows it as the files in RAM: either everything fits together, and each
// guest gets a layout and a device tree of its own, or it is refused. Nothing but the files is ever read.
#include <algorithm>
#include <array>

#include "hyp/config/guest_dtb.hh"
#include "hyp/config/layout.hh"
#include "hyp/config/plan_check.hh"
#include "hyp/guest/guest_map.hh"
#include "tests/fuzz/dtb_input.hh"

namespace cadastre {
namespace {

constexpr std::array<MemoryRegion, 1> kMemory = {MemoryRegion{{PhysAddr(0x4000'0000), 1U << 30}}};
constexpr PhysAddr kFiles(0x5000'0000);  // where the rest of the input lies
constexpr std::uint64_t kFree = 768U << 20;

class Ram final : public PhysReader {
 public:
  Ram(std::span<const std::uint8_t> files, const Configuration& configuration)
      : files_(files), configuration_(configuration) {}

  void read(PhysAddr from, std::span<std::byte> to) override {
    CHECK(is_in_module(from, to.size()));
    for (std::size_t i = 0; i < to.size(); ++i) {
      const PhysAddr at = from + i;
      const bool is_file = at >= kFiles && at - kFiles < files_.size();
      to[i] = is_file ? std::byte{files_[static_cast<std::size_t>(at - kFiles)]} : std::byte{0xa5};
    }
  }

 private:
  [[nodiscard]] bool is_in_module(PhysAddr from, std::size_t size) const {
    return std::ranges::any_of(configuration_.guests, [&](const GuestPlan& guest) {
      const PhysRange& range = guest.kernel.range;
      return guest.kernel.is_loaded && from >= range.base && from + size <= range.end();
    });
  }

  std::span<const std::uint8_t> files_;
  const Configuration& configuration_;
};

bool overlap(const IpaRange& a, const IpaRange& b) {
  return a.base < b.end() && b.base < a.end();
}

void check_layout(const GuestPlan& guest) {
  InplaceVector<IpaRange, GuestLayout::kMaxSegments + 2> parts;
  CHECK(parts.push_back(guest.layout.dtb));
  for (const GuestSegment& segment : guest.layout.segments) {
    CHECK(segment.source_size <= segment.target.size && parts.push_back(segment.target));
    CHECK(segment.source >= kMemory[0].base && segment.source + segment.source_size <= kMemory[0].end());
  }
  const IpaRange ram{.base = guest_map::kRam, .size = guest.memory};
  for (const IpaRange& part : parts) {
    CHECK(part.base >= ram.base && part.end() <= ram.end() && part.end() > part.base);
    for (const IpaRange& other : parts) CHECK(&part == &other || !overlap(part, other));
  }
  CHECK(guest.layout.entry >= ram.base && guest.layout.entry < ram.end());
}

void check_guest_dtb(const GuestPlan& guest) {
  alignas(8) static std::array<std::byte, kGuestDtbRoom> room;
  const auto size = write_guest_dtb(room, {.memory = guest.memory,
                                           .cpus = guest.cpus,
                                           .cpu_compatible = "arm,cortex-a15",
                                           .bootargs = guest.bootargs.view(),
                                           .initrd = guest.layout.initrd});
  CHECK(size.has_value());
  Refusals refusals;
  const auto tree = DeviceTree::open(std::span(room).first(*size), refusals);
  CHECK(tree.has_value());
  const auto chosen = tree->find("/chosen");
  CHECK(chosen.has_value());
  const auto bootargs = chosen->property("bootargs");
  CHECK(bootargs ? bootargs->string() == guest.bootargs.view() : guest.bootargs.empty());
}

void check_configuration(const Configuration& configuration) {
  std::uint64_t memory = 0;
  for (const GuestPlan& guest : configuration.guests) {
    CHECK(!guest.name.empty() && guest.cpus >= 1 && guest.cpus <= kMaxVcpus && guest.memory % kPageSize == 0);
    memory += guest.memory;
    check_layout(guest);
    check_guest_dtb(guest);
  }
  CHECK(!configuration.guests.empty() && memory < kFree);
}

}  // namespace
}  // namespace cadastre

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace cadastre;
  static Configuration configuration;
  Refusals refusals;
  const GuardedBytes blob({data, size});
  const auto tree = DeviceTree::open(blob.bytes(), refusals);
  const bool is_read = tree && read_configuration(*tree, configuration, refusals);
  CHECK(is_read == refusals.empty());
  if (!tree) return 0;
  // The plan is checked even if the reader has refused some of it: that must not be worse than wrong.
  const HostResources host{.free_memory = kFree,
                           .table_memory = kFree,
                           .guest_overhead = 0x8000,
                           .vcpu_overhead = 0x4000,
                           .memory = kMemory};
  Ram ram({data + tree->size(), size - tree->size()}, configuration);
  const bool is_good = check_plan(configuration, host, ram, refusals);
  CHECK(is_good == refusals.empty());
  if (is_good) check_configuration(configuration);
  return 0;
}
