#include "hyp/config/plan_check.hh"

#include <algorithm>
#include <array>

#include "hyp/config/layout.hh"
#include "hyp/devices/vcpu_limit.hh"
#include "mm/translation/stage2_format.hh"

namespace cadastre {
namespace {

bool overlap(const PhysRange& a, const PhysRange& b) {
  return a.base < b.end() && b.base < a.end();
}
bool is_same(const PhysRange& a, const PhysRange& b) {
  return a.base == b.base && a.size == b.size;
}

// Whether each byte is in some region; neighbouring regions count as one. `regions` are sorted.
bool is_in(std::span<const MemoryRegion> regions, const PhysRange& range) {
  PhysAddr reached = range.base;
  for (const MemoryRegion& region : regions) {
    if (region.base <= reached && reached < region.end()) reached = region.end();
  }
  return reached >= range.end();
}

// A module by itself. False when its bytes cannot be looked at.
bool check_module(const GuestModule& module, const HostResources& host, Refusals& refusals) {
  if (!module.is_loaded) {
    refuse(refusals, module,
           "not loaded, no reg says where: start with scripts/run.sh, or load it and give its address");
    return false;
  }
  const PhysRange& range = module.range;
  if (range.size == 0) {
    refuse(refusals, module, "is empty: give a file with something in it");
    return false;
  }
  if (!is_sensible(range) || !is_in(host.memory, range)) {
    refuse(refusals, module, "{} at {} is not all in RAM: load it elsewhere", size_text(range.size).view(), range.base);
    return false;
  }
  return true;
}

// Two guests may start from the same bytes in the same role; anything else that overlaps is a mistake.
void check_pair(GuestModule& a, GuestModule& b, bool is_same_role, Refusals& refusals) {
  if (!a.is_loaded || !b.is_loaded || !is_sensible(a.range) || !is_sensible(b.range)) return;
  if (!overlap(a.range, b.range)) return;
  if (is_same_role && is_same(a.range, b.range)) {
    a.is_shared = true;
    b.is_shared = true;
    return;
  }
  refuse(refusals, b, "overlaps {} at {} to {}: load it elsewhere", a.path.view(), a.range.base, a.range.end());
}

void check_modules_against_each_other(Configuration& configuration, Refusals& refusals) {
  auto& guests = configuration.guests;
  for (std::size_t i = 0; i < guests.size(); ++i) {
    check_pair(guests[i].kernel, guests[i].initrd, false, refusals);
    for (std::size_t j = i + 1; j < guests.size(); ++j) {
      check_pair(guests[i].kernel, guests[j].kernel, true, refusals);
      check_pair(guests[i].kernel, guests[j].initrd, false, refusals);
      check_pair(guests[i].initrd, guests[j].kernel, false, refusals);
      check_pair(guests[i].initrd, guests[j].initrd, true, refusals);
    }
  }
}

// False when the size itself makes no sense.
bool check_memory(const GuestPlan& guest, const HostResources& host, Refusals& refusals) {
  if (guest.memory < kMinGuestMemory) {
    refuse(refusals, guest, "memory of {} is less than a guest can use: give at least {}",
           size_text(guest.memory).view(), size_text(kMinGuestMemory).view());
    return false;
  }
  if (guest.memory % kPageSize != 0) {
    refuse(refusals, guest, "memory of {} is no multiple of 4 KiB: round it", size_text(guest.memory).view());
    return false;
  }
  if (guest.memory > host.free_memory) {
    refuse(refusals, guest,
           "memory of {} is more than the {} that guests can have: give the guest less or the machine more",
           size_text(guest.memory).view(), size_text(host.free_memory).view());
    return false;
  }
  return true;
}

// False when the count makes no sense.
bool check_cpus(const GuestPlan& guest, const HostResources& host, Refusals& refusals) {
  const unsigned most = std::min(host.max_vcpus, kMaxVcpus);
  if (guest.cpus >= 1 && guest.cpus <= most) return true;
  refuse(refusals, guest, "{} CPUs cannot be: give 1 to {}", guest.cpus, most);
  return false;
}

// Bytes that a guest needs beside its RAM.
std::uint64_t beside_ram(const GuestPlan& guest, const HostResources& host) {
  const std::uint64_t metadata = host.guest_overhead + guest.cpus * host.vcpu_overhead;
  const std::uint64_t pages = demand_of(guest).tables + (metadata + kPageSize - 1) / kPageSize;
  return pages * kPageSize;
}

// Of guests that are sensible one by one: what they ask for together, and what each does.
void check_sum(const Configuration& configuration, const HostResources& host, Refusals& refusals) {
  const auto& guests = configuration.guests;
  std::uint64_t memory = 0;
  std::uint64_t beside = 0;
  for (const GuestPlan& guest : guests) {
    memory += demand_of(guest).ram * std::uint64_t{kPageSize};
    beside += beside_ram(guest, host);
  }
  const std::string_view who = guests.size() == 1 ? guests[0].path.view() : "guests";
  if (beside > host.table_memory) {
    refusals.add(
        "{}: {} for tables and metadata are more than the {} of low memory that guests can have: give guests less", who,
        size_text(beside).view(), size_text(host.table_memory).view());
  } else if (memory + beside > host.free_memory) {
    refusals.add(
        "{}: {} of guest RAM and {} for its tables are more than the {} that guests can have: give guests less or the "
        "machine more",
        who, size_text(memory).view(), size_text(beside).view(), size_text(host.free_memory).view());
  } else {
    return;
  }
  if (guests.size() == 1) return;
  for (const GuestPlan& guest : guests) {
    refuse(refusals, guest, "asks for {} of RAM and {} beside it", size_text(guest.memory).view(),
           size_text(beside_ram(guest, host)).view());
  }
}

// True when the guest's demands on memory are known.
bool check_guest(GuestPlan& guest, const HostResources& host, PhysReader& reader, Refusals& refusals) {
  const bool has_memory = check_memory(guest, host, refusals);
  const bool has_cpus = check_cpus(guest, host, refusals);
  const bool has_kernel = guest.kernel.is_given && check_module(guest.kernel, host, refusals);
  const bool has_initrd = !guest.initrd.is_given || check_module(guest.initrd, host, refusals);
  if (has_kernel) {
    const auto image = recognise_image(guest.kernel, reader, refusals);
    if (image && has_memory && has_initrd) (void)place_guest(guest, *image, refusals);
  }
  return has_memory && has_cpus;
}

}  // namespace

// Two vCPUs that fault on the same address both have a page and tables for it in hand, for a moment.
GuestDemand demand_of(const GuestPlan& guest) {
  constexpr unsigned kTablesInHand = 4;
  return {.ram = static_cast<std::uint32_t>(guest.memory >> kPageShift) + guest.cpus - 1,
          .tables = stage2_tables(guest.memory) + kTablesInHand * guest.cpus};
}

bool is_sensible(const PhysRange& range) {
  return range.base.value() < kPhysicalEnd && range.size <= kPhysicalEnd - range.base.value();
}

bool check_plan(Configuration& configuration, const HostResources& host, PhysReader& reader, Refusals& refusals) {
  bool is_sum_known = true;
  for (GuestPlan& guest : configuration.guests) {
    is_sum_known = check_guest(guest, host, reader, refusals) && is_sum_known;
  }
  check_modules_against_each_other(configuration, refusals);
  if (is_sum_known) check_sum(configuration, host, refusals);
  return refusals.empty();
}

}  // namespace cadastre
