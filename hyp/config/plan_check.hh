// The plan is checked as a whole before anything is built: every reason against it is told, and then nothing
// starts.
#pragma once

#include <cstdint>
#include <span>

#include "hyp/config/image.hh"
#include "hyp/config/plan.hh"
#include "hyp/devices/vcpu_limit.hh"
#include "mm/base/address.hh"

namespace cadastre {

// What there is for guests, and what one costs beside its RAM.
struct HostResources {
  // Bytes that can be promised to guests, for their RAM, their tables and what else they cost. Not among them: modules, the
  // watermarks, what CMA areas may want back, and pages on CPUs' lists.
  std::uint64_t free_memory = 0;
  std::uint64_t table_memory = 0;        // the part of it that is in the linear map, where all but RAM has to be
  std::uint64_t guest_overhead = 0;      // bytes a guest, without its stage-2 tables
  std::uint64_t vcpu_overhead = 0;       // bytes a vCPU
  unsigned max_vcpus = kMaxVcpus;        // a guest, at most kMaxVcpus
  std::span<const MemoryRegion> memory;  // the machine's RAM, sorted
};

// What is booked for a guest, in pages.
struct GuestDemand {
  std::uint32_t ram = 0;
  std::uint32_t tables = 0;
};
[[nodiscard]] GuestDemand demand_of(const GuestPlan& guest);

// Whether all of it is within 40 bits of address.
[[nodiscard]] bool is_sensible(const PhysRange& range);

inline constexpr std::uint64_t kMinGuestMemory = 1 << 20;

// Recognises every image and fills every guest's layout. False, with each reason in `refusals`, when anything
// is wrong.
[[nodiscard]] bool check_plan(Configuration& configuration, const HostResources& host, PhysReader& reader,
                              Refusals& refusals);

}  // namespace cadastre
