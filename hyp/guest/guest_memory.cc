#include "hyp/guest/guest_memory.hh"

#include <algorithm>
#include <cstring>

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cache.hh"
#include "arch/armv7/cp15.hh"

namespace cadastre {
namespace {

using arch::machine;

static_assert(GuestMemoryOperations<GuestOperations>);

VmidAllocator vmids;

// f(bytes, size) for pages beside each other: what lies in the linear map in one go, high memory page by page.
template <class F>
void for_bytes(Pfn first, std::uint32_t count, F&& f) {
  const Pfn past = first + count;
  if (past <= machine.high_memory()) return f(machine.linear(address_of(first)), count * kPageSize);
  for (Pfn page = first; page < past; page += 1) {
    std::byte* bytes = machine.kmap(page);
    f(bytes, kPageSize);
    machine.kunmap(bytes);
  }
}

}  // namespace

Result<PhysAddr> GuestOperations::allocate_table() const {
  if (booking_ == nullptr) return cadastre::allocate_table();
  const Result<Pfn> page = memory.pages.alloc_booked(*booking_, Share::kTables, 0, home_);
  if (!page) return cadastre::allocate_table();
  std::memset(machine.linear(address_of(*page)), 0, kPageSize);
  return address_of(*page);
}

void GuestOperations::free_table(PhysAddr table) const {
  if (booking_ == nullptr) return cadastre::free_table(table);
  CHECK(memory.pages.free_booked(*booking_, Share::kTables, frame_of(table), 0));
}

Entry* GuestOperations::table_at(PhysAddr table) {
  return reinterpret_cast<Entry*>(machine.linear(table));
}

void GuestOperations::invalidate(std::uint64_t /*first*/, std::uint64_t /*size*/) const {
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

void GuestOperations::scrub(Pfn first, std::uint32_t count) {
  for_bytes(first, count, arch::scrub);
}

void GuestOperations::copy(Pfn to, Pfn from) {
  const std::byte* source = machine.kmap(from);
  std::byte* target = machine.kmap(to);
  std::memcpy(target, source, kPageSize);
  arch::clean_and_invalidate_data_cache(target, kPageSize);
  machine.kunmap(target);
  machine.kunmap(source);
}

void GuestOperations::clean_pages(Pfn first, std::uint32_t count) {
  for_bytes(first, count, arch::clean_and_invalidate_data_cache);
}

void GuestOperations::write(PhysAddr to, std::span<const std::byte> bytes) {
  std::byte* page = machine.kmap(frame_of(to));
  std::byte* target = page + to.offset_in(kPageSize);
  std::memcpy(target, bytes.data(), bytes.size());
  arch::clean_and_invalidate_data_cache(target, bytes.size());
  machine.kunmap(page);
}

GuestMemory::GuestMemory(OwnerId owner, NodeId home, Booking& booking, std::uint64_t size, unsigned largest_level,
                         PhysAddr root)
    : BasicGuestMemory({memory.pages, memory.ownership, memory.sharers}, owner, home,
                       {.first = guest_map::kRam, .size = size, .largest_level = largest_level}, root, &booking) {
  tables_.use_booking(booking, home);
}

std::uint64_t GuestMemory::activate() {
  const VmidAllocator::Activation activation = vmids.activate(machine.cpu(), tables_.vmid());
  if (activation.flush) {
    arch::TLBIALLNSNH::write(0);
    arch::dsb();
  }
  return vttbr(root(), activation.number);
}

}  // namespace cadastre
