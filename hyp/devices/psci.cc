#include "hyp/devices/psci.hh"

#include "mm/base/check.hh"

namespace cadastre {

namespace {

using namespace psci;

constexpr std::uint32_t kImplementedVersion = 0x0001'0000;       // 1.0 [PSCI 5.1.1]
constexpr std::uint32_t kSmcccVersionImplemented = 0x0001'0001;  // 1.1 [SMCCC 7.2]
constexpr std::uint32_t kNoTrustedOs = 2;                        // needs no migration, or is not there [PSCI 5.1.6]

// CPU_SUSPEND's power_state in its original format: StateID, StateType, PowerLevel [PSCI 5.4.2.1].
constexpr std::uint32_t kPowerStateReserved = 0xfcfe'0000;

// 8 bits a level [PSCI 5.1.5].
constexpr std::uint32_t kHighestAffinityLevel = 3;
enum : std::int32_t { kAffinityOn = 0, kAffinityOff = 1, kAffinityOnPending = 2 };

PsciDecision answer(std::int32_t value) {
  return {.value = static_cast<std::uint32_t>(value)};
}

bool implemented(std::uint32_t function) {
  switch (function) {
    case kSmcccVersion:
    case kVersion:
    case kCpuSuspend:
    case kCpuOff:
    case kCpuOn:
    case kAffinityInfo:
    case kMigrateInfoType:
    case kSystemOff:
    case kSystemReset:
    case kFeatures:
      return true;
    default:
      return false;
  }
}

}  // namespace

PsciServer::PsciServer(unsigned vcpus) : vcpus_(vcpus) {
  CHECK(vcpus >= 1 && vcpus <= kMaxVcpus);
  reset();
}

void PsciServer::reset() {
  for (unsigned v = 0; v < vcpus_; ++v) v == 0 ? started(v) : stopped(v);
}

bool PsciServer::all_off() const {
  for (unsigned v = 0; v < vcpus_; ++v) {
    if (power(v) != Power::kOff) return false;
  }
  return true;
}

PsciDecision PsciServer::call(const PsciCall& call) {
  const auto& [first, second, third] = call.arguments;
  switch (call.function) {
    case kVersion:
      return {.value = kImplementedVersion};
    case kCpuSuspend:
      return cpu_suspend(first);
    case kCpuOff:
      return {.action = PsciDecision::Action::kCpuOff};
    case kCpuOn:
      return cpu_on(first, second, third);
    case kAffinityInfo:
      return answer(affinity_info(first, second));
    case kMigrateInfoType:
      return {.value = kNoTrustedOs};
    case kSystemOff:
      return {.action = PsciDecision::Action::kSystemOff};
    case kSystemReset:
      return {.action = PsciDecision::Action::kSystemReset};
    // CPU_SUSPEND's feature flags are zero as well: original format, platform-coordinated [PSCI 5.1.14].
    case kFeatures:
      return answer(implemented(first) ? kSuccess : kNotSupported);
    case kSmcccVersion:
      return {.value = kSmcccVersionImplemented};
    // Of the architecture's own functions there are just these two [SMCCC 7.3].
    case kSmcccArchFeatures:
      return answer(first == kSmcccVersion || first == kSmcccArchFeatures ? kSuccess : kNotSupported);
    default:
      return answer(kNotSupported);
  }
}

// Every state is a standby: a request to power down may be taken as one, and returns at the wake-up
// [PSCI 5.4.2].
PsciDecision PsciServer::cpu_suspend(std::uint32_t power_state) const {
  if ((power_state & kPowerStateReserved) != 0) return answer(kInvalidParameters);
  return {.action = PsciDecision::Action::kStandby, .value = static_cast<std::uint32_t>(kSuccess)};
}

PsciDecision PsciServer::cpu_on(std::uint32_t target, std::uint32_t entry, std::uint32_t context) {
  if (target >= vcpus_) return answer(kInvalidParameters);
  Power expected = Power::kOff;
  if (!power_[target].compare_exchange_strong(expected, Power::kOnPending, std::memory_order_acq_rel)) {
    return answer(expected == Power::kOn ? kAlreadyOn : kOnPending);
  }
  return {.action = PsciDecision::Action::kCpuOn,
          .value = static_cast<std::uint32_t>(kSuccess),
          .target = target,
          .entry = entry,
          .context = context};
}

// Affinity fields below `lowest_level` do not count: the answer is for all vCPUs that match the rest.
std::int32_t PsciServer::affinity_info(std::uint32_t affinity, std::uint32_t lowest_level) const {
  if (lowest_level > kHighestAffinityLevel) return kInvalidParameters;
  const std::uint64_t mask = ~std::uint64_t{0} << 8 * lowest_level;
  bool found = false;
  bool pending = false;
  for (unsigned v = 0; v < vcpus_; ++v) {
    if ((v & mask) != (affinity & mask)) continue;
    if (power(v) == Power::kOn) return kAffinityOn;
    found = true;
    pending |= power(v) == Power::kOnPending;
  }
  if (!found) return kInvalidParameters;
  return pending ? kAffinityOnPending : kAffinityOff;
}

}  // namespace cadastre
