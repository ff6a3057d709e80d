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
  std::uint64_t free_memory = 0;  // bytes that guests, their tables and their metadata may take; modules not among them
  std::uint64_t guest_overhead = 0;      // bytes a guest, without its stage-2 tables
  std::uint64_t vcpu_overhead = 0;       // bytes a vCPU
  unsigned max_vcpus = kMaxVcpus;        // a guest, at most kMaxVcpus
  std::span<const MemoryRegion> memory;  // the machine's RAM, sorted
};

// Whether all of it is within 40 bits of address.
[[nodiscard]] bool is_sensible(const PhysRange& range);

inline constexpr std::uint64_t kMinGuestMemory = 1 << 20;

// Recognises every image and fills every guest's layout. False, with each reason in `refusals`, when anything
// is wrong.
[[nodiscard]] bool check_plan(Configuration& configuration, const HostResources& host, PhysReader& reader,
                              Refusals& refusals);

}  // namespace cadastre
