#include "hyp/guest/guest_memory.hh"

#include <algorithm>
#include <cstring>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cache.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/machine.hh"
#include "hyp/core/memory.hh"
#include "mm/base/check.hh"

namespace cadastre {
namespace {

using arch::machine;

VmidAllocator vmids;

constexpr unsigned kLeavesPerStep = 32;
constexpr unsigned kNewLeavesPerStep = 1;

[[nodiscard]] constexpr unsigned order_of(unsigned level) {
  return level_shift(level) - kPageShift;
}

// Calls f(bytes of a page) for each page of a block, low or high memory.
template <class F>
void for_each_page(PhysAddr block, std::uint64_t size, F&& f) {
  for (std::uint64_t offset = 0; offset < size; offset += kPageSize) {
    std::byte* page = machine.kmap(frame_of(block + offset));
    f(page);
    machine.kunmap(page);
  }
}

}  // namespace

Result<PhysAddr> GuestEnvironment::allocate_table() const {
  if (booking_ == nullptr) return cadastre::allocate_table();
  const Result<Pfn> page = memory.pages.alloc_booked(*booking_, Share::kTables, 0, home_);
  if (!page) return cadastre::allocate_table();
  std::memset(machine.linear(address_of(*page)), 0, kPageSize);
  return address_of(*page);
}

void GuestEnvironment::free_table(PhysAddr table) const {
  if (booking_ == nullptr) return cadastre::free_table(table);
  CHECK(memory.pages.free_booked(*booking_, Share::kTables, frame_of(table), 0));
}

Result<Pfn> GuestEnvironment::take_block(unsigned order) const {
  const auto booked = booking_ == nullptr ? Result<Pfn>(std::unexpected(Error::kNoMemory))
                                          : memory.pages.alloc_booked(*booking_, Share::kRam, order, home_);
  if (!booked) {
    const AllocFlags flags = kHighmem | kMovable | kZero | (order == 0 ? AllocFlags() : kNoWarn | kNoRetry);
    return memory.pages.alloc_near(home_, order, flags);
  }
  for_each_page(address_of(*booked), kPageSize << order, [](std::byte* page) { std::memset(page, 0, kPageSize); });
  return booked;
}

void GuestEnvironment::give_back(Pfn block, unsigned order) const {
  if (booking_ == nullptr) return memory.pages.free(block, order);
  CHECK(memory.pages.free_booked(*booking_, Share::kRam, block, order));
}

Entry* GuestEnvironment::table_at(PhysAddr table) {
  return reinterpret_cast<Entry*>(machine.linear(table));
}

void GuestEnvironment::invalidate(std::uint64_t /*first*/, std::uint64_t /*size*/) const {
  const std::uint8_t number = vmid_.number();
  if (number == 0) return;  // it never ran
  // TLBIALLIS means the VMID in VTTBR [ARMv7 B3.10.6]. The root does not matter: nothing is walked in between.
  const std::uint64_t current = arch::VTTBR::read();
  arch::VTTBR::write(vttbr(PhysAddr(current & kEntryAddressMask), number));
  arch::isb();
  arch::TLBIALLIS::write(0);
  arch::dsb_ish();
  arch::VTTBR::write(current);
  arch::isb();
}

// More than the buddy's largest block: the highest aligned GiB of RAM that can be emptied, in blocks of 2 MiB.
Result<PhysAddr> GuestEnvironment::allocate_gib(IpaAddr ipa) const {
  constexpr std::uint32_t kPages = 1U << 18;
  constexpr unsigned kBlockOrder = kBlockShift - kPageShift;
  for (unsigned gib = 1U << (kPhysBits - 30); gib-- != 0;) {
    const Pfn first(gib * kPages);
    if (memory.pages.frames().index_of(first) == kNoFrame) continue;
    if (!memory.pages.alloc_contig_range(first, first + kPages, FrameState::kHyp, booking_)) continue;
    if (booking_ != nullptr) memory.pages.charge(*booking_, Share::kRam, kPages);
    for (std::uint32_t i = 0; i < kPages; ++i) {
      CHECK(memory.ownership.give(first + i, owner_, frame_of(ipa) + i).has_value());
    }
    for (std::uint32_t i = 0; i < kPages; i += kPagesPerBlock) {
      CHECK(memory.ownership.join(first + i, kBlockOrder).has_value());
    }
    for_each_page(address_of(first), level_size(1), [](std::byte* page) {
      std::memset(page, 0, kPageSize);
      arch::clean_and_invalidate_data_cache(page, kPageSize);
    });
    return address_of(first);
  }
  return std::unexpected(Error::kNoMemory);
}

Result<PhysAddr> GuestEnvironment::allocate_frame(IpaAddr ipa, unsigned level) const {
  if (level == 1) return allocate_gib(ipa);
  const Result<Pfn> block = take_block(order_of(level));
  if (!block) return std::unexpected(block.error());
  if (const Result<> given = memory.ownership.give(*block, owner_, frame_of(ipa)); !given) {
    give_back(*block, order_of(level));
    return std::unexpected(given.error());
  }
  const PhysAddr address = address_of(*block);
  // A clean alone would leave lines that hide what the guest writes before it turns its caches on.
  if (clean_new_) {
    for_each_page(address, level_size(level),
                  [](std::byte* page) { arch::clean_and_invalidate_data_cache(page, kPageSize); });
  }
  return address;
}

// Every block that begins in the leaf: a leaf that was split is smaller than its block, one that was merged is larger.
void GuestEnvironment::free_frame(PhysAddr frame, unsigned level) const {
  const Pfn past = frame_of(frame + level_size(level));
  for (Pfn page = frame_of(frame); page < past;) {
    const FrameWord word = memory.pages.frames()[memory.pages.frames().index_of(page)].word();
    if (!is_guest(word.state) || word.owner != owner_) {  // of a block that is gone already
      page += 1;
      continue;
    }
    give_back(page, word.order);
    page += 1U << word.order;
  }
}

Result<PhysAddr> GuestEnvironment::private_copy(IpaAddr ipa, PhysAddr frame) const {
  const Result<PhysAddr> copy = allocate_frame(ipa, kLastLevel);
  if (!copy) return copy;
  const std::byte* from = machine.kmap(frame_of(frame));
  std::byte* to = machine.kmap(frame_of(*copy));
  std::memcpy(to, from, kPageSize);
  machine.kunmap(to);
  machine.kunmap(from);
  return copy;
}

void GuestEnvironment::drop_shared(PhysAddr frame) {
  const Result<unsigned> left = memory.ownership.put(frame_of(frame));
  CHECK(left.has_value());
  if (*left == 0) memory.pages.free(frame_of(frame), 0);
}

GuestMemory::GuestMemory(OwnerId owner, NodeId home, Booking& booking, std::uint64_t size, unsigned largest_level,
                         PhysAddr root)
    : environment_(owner, home, &booking),
      largest_level_(largest_level),
      ram_{.first = guest_map::kRam, .size = size, .largest_level = largest_level},
      stage2_(environment_, root, stage2_tables(size)) {}

Result<FaultAnswer> GuestMemory::serve_fault(IpaAddr address, Access access) {
  const SpinlockGuard guard(lock_);
  environment_.set_clean_new(sctlr::caches_off(arch::SCTLR::read()));
  return stage2_.serve_fault(address, access, ram_);
}

Result<std::uint64_t> GuestMemory::populate_some(std::uint64_t done, MappingCounts& counts) {
  // Nobody waits for the lock: the guest does not run yet. So emptying a GiB may ask other CPUs for their page lists.
  const SpinlockGuard guard(lock_);
  environment_.set_clean_new(true);
  const IpaAddr at = ram_.first + done;
  const Result<std::uint64_t> populated = stage2_.populate_some(at, ram_, kNewLeavesPerStep);
  if (!populated) return populated;
  stage2_.table().visit(at, *populated, [&](IpaAddr, const Tables::Mapping& mapping) { ++counts[mapping.level]; });
  if (done + *populated == ram_.size) ram_.largest_level = std::max(ram_.largest_level, 2U);
  return done + *populated;
}

Result<> GuestMemory::map_device(IpaAddr address, PhysAddr physical, std::uint64_t size) {
  const SpinlockGuard guard(lock_);
  return stage2_.table().map(address, physical, size, Stage2Attributes::device());
}

Result<> GuestMemory::write(IpaAddr address, std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  if (!ram_.contains(address, bytes.size())) return std::unexpected(Error::kOutOfRange);
  const SpinlockGuard guard(lock_);
  environment_.set_clean_new(true);
  while (!bytes.empty()) {
    const auto physical = stage2_.prepare_write(address, ram_);
    if (!physical) return std::unexpected(physical.error());
    const auto offset = static_cast<std::size_t>(address.offset_in(kPageSize));
    const std::size_t part = std::min(bytes.size(), kPageSize - offset);
    std::byte* page = machine.kmap(frame_of(*physical));
    std::memcpy(page + offset, bytes.data(), part);
    arch::clean_and_invalidate_data_cache(page + offset, part);
    machine.kunmap(page);
    bytes = bytes.subspan(part);
    address += part;
  }
  return {};
}

std::optional<std::uint64_t> GuestMemory::clean_some(std::uint64_t from) {
  const SpinlockGuard guard(lock_);
  const std::uint64_t at = from < Tables::kInputSize ? stage2_.table().next_mapped(IpaAddr(from)) : Tables::kInputSize;
  const auto mapping = stage2_.table().query(IpaAddr(at));
  if (!mapping) return std::nullopt;
  const std::uint64_t end = (at | (std::min<std::uint64_t>(mapping->size(), kBlockSize) - 1)) + 1;
  if (mapping->attributes.memory() == Stage2Memory::kNormal) {
    for_each_page(mapping->address, end - at,
                  [](std::byte* page) { arch::clean_and_invalidate_data_cache(page, kPageSize); });
  }
  return end;
}

bool GuestMemory::merge_step() {
  constexpr unsigned kTablesPerStep = 4;
  const SpinlockGuard guard(lock_);
  return stage2_.merge_step(kTablesPerStep, largest_level_);
}

std::optional<std::uint64_t> GuestMemory::release_some(std::uint64_t from, RamUse& use) {
  const SpinlockGuard guard(lock_);
  const std::uint64_t past = stage2_.release_some(from, kLeavesPerStep, [&](IpaAddr, const Tables::Mapping& mapping) {
    if (mapping.attributes.memory() != Stage2Memory::kNormal) return;
    const Pfn block = frame_of(mapping.address);
    FrameTable& frames = memory.pages.frames();
    const FrameIndex index = frames.index_of(block);
    const std::uint32_t count = 1U << order_of(mapping.level);
    use.by_zone[frames.section_of(index).zone] += count;
    if (frames.pageblock_type(index) == MigrateType::kCma) use.lent += count;
    environment_.free_frame(mapping.address, mapping.level);
  });
  return past < Tables::kInputSize ? std::optional(past) : std::nullopt;
}

std::uint64_t GuestMemory::activate() {
  const VmidAllocator::Activation activation = vmids.activate(machine.cpu(), environment_.vmid());
  if (activation.flush) {
    arch::TLBIALLNSNH::write(0);
    arch::dsb();
  }
  return vttbr(root(), activation.number);
}

}  // namespace cadastre
