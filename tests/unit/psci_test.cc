#include "hyp/devices/psci.hh"

#include <array>
#include <atomic>
#include <thread>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

using namespace psci;
using Action = PsciDecision::Action;
using Power = PsciServer::Power;

// The answer of a call that needs nothing done.
std::int32_t answer(PsciServer& server, std::uint32_t function, std::uint32_t first = 0, std::uint32_t second = 0) {
  const PsciDecision decision = server.call({.function = function, .arguments = {first, second, 0}});
  CHECK(decision.action == Action::kReturn);
  return static_cast<std::int32_t>(decision.value);
}

TEST_CASE("PSCI is version 1.0, SMCCC 1.1, and there is no trusted OS to migrate") {
  PsciServer server(1);
  CHECK(answer(server, kVersion) == 0x0001'0000);
  CHECK(answer(server, kSmcccVersion) == 0x0001'0001);
  CHECK(answer(server, kMigrateInfoType) == 2);
}

TEST_CASE("PSCI_FEATURES knows what is implemented, and the rest is not supported") {
  PsciServer server(2);
  for (const std::uint32_t function : {kSmcccVersion, kVersion, kCpuSuspend, kCpuOff, kCpuOn, kAffinityInfo,
                                       kMigrateInfoType, kSystemOff, kSystemReset, kFeatures}) {
    CHECK(answer(server, kFeatures, function) == kSuccess);
  }
  // MIGRATE, MIGRATE_INFO_UP_CPU, CPU_FREEZE, SYSTEM_SUSPEND, SYSTEM_RESET2, 64-bit CPU_ON, PSCI 0.1's, and no function.
  for (const std::uint32_t function : {0x8400'0005U, 0x8400'0007U, 0x8400'000bU, 0x8400'000eU, 0x8400'0012U,
                                       0xc400'0003U, 0x95c1'ba5eU, 0U, 0xffff'ffffU}) {
    CHECK(answer(server, kFeatures, function) == kNotSupported);
    CHECK(answer(server, function) == kNotSupported);
  }
  CHECK(answer(server, kSmcccArchFeatures, kSmcccVersion) == kSuccess);
  CHECK(answer(server, kSmcccArchFeatures, kSmcccArchFeatures) == kSuccess);
  CHECK(answer(server, kSmcccArchFeatures, 0x8000'8000) == kNotSupported);  // SMCCC_ARCH_WORKAROUND_1
}

TEST_CASE("CPU_ON starts a vCPU that is off, once, and says what it is otherwise") {
  PsciServer server(2);
  CHECK(server.power(0) == Power::kOn);
  CHECK(server.power(1) == Power::kOff);
  const PsciCall on{.function = kCpuOn, .arguments = {1, 0x4001'0001, 42}};
  const PsciDecision decision = server.call(on);
  CHECK(decision.action == Action::kCpuOn);
  CHECK(decision.target == 1);
  CHECK(decision.entry == 0x4001'0001);
  CHECK(decision.context == 42);
  CHECK(static_cast<std::int32_t>(decision.value) == kSuccess);
  CHECK(answer(server, kCpuOn, 1) == kOnPending);
  CHECK(answer(server, kAffinityInfo, 1) == 2);
  server.started(1);
  CHECK(answer(server, kCpuOn, 1) == kAlreadyOn);
  CHECK(answer(server, kCpuOn, 0) == kAlreadyOn);
  CHECK(answer(server, kCpuOn, 2) == kInvalidParameters);
  CHECK(answer(server, kCpuOn, 0x0100) == kInvalidParameters);
  CHECK(answer(server, kCpuOn, 0x8000'0001) == kInvalidParameters);
}

TEST_CASE("CPU_OFF leaves a vCPU on until it has stopped; then it may be started again") {
  PsciServer server(2);
  (void)server.call({.function = kCpuOn, .arguments = {1, 0, 0}});
  server.started(1);
  CHECK(server.call({.function = kCpuOff}).action == Action::kCpuOff);
  CHECK(answer(server, kAffinityInfo, 1) == 0);
  CHECK(answer(server, kCpuOn, 1) == kAlreadyOn);
  server.stopped(1);
  CHECK(answer(server, kAffinityInfo, 1) == 1);
  CHECK_FALSE(server.all_off());
  server.stopped(0);
  CHECK(server.all_off());
  CHECK(server.call({.function = kCpuOn, .arguments = {1, 0, 0}}).action == Action::kCpuOn);
  CHECK_FALSE(server.all_off());
  server.reset();
  CHECK(server.power(0) == Power::kOn);
  CHECK(server.power(1) == Power::kOff);
}

TEST_CASE("AFFINITY_INFO of a higher level tells of all vCPUs in it") {
  PsciServer server(3);
  CHECK(answer(server, kAffinityInfo, 0) == 0);
  CHECK(answer(server, kAffinityInfo, 1) == 1);
  CHECK(answer(server, kAffinityInfo, 3) == kInvalidParameters);
  CHECK(answer(server, kAffinityInfo, 0x0100) == kInvalidParameters);
  CHECK(answer(server, kAffinityInfo, 0x0100'0000) == kInvalidParameters);
  for (std::uint32_t level = 1; level <= 3; ++level) CHECK(answer(server, kAffinityInfo, 7, level) == 0);
  CHECK(answer(server, kAffinityInfo, 0x0100, 1) == kInvalidParameters);
  CHECK(answer(server, kAffinityInfo, 0x0100, 2) == 0);
  CHECK(answer(server, kAffinityInfo, 0, 4) == kInvalidParameters);
  server.stopped(0);
  CHECK(answer(server, kAffinityInfo, 0, 1) == 1);
  (void)server.call({.function = kCpuOn, .arguments = {2, 0, 0}});
  CHECK(answer(server, kAffinityInfo, 0, 1) == 2);
}

TEST_CASE("CPU_SUSPEND waits for an interrupt, whatever the depth that is asked for") {
  PsciServer server(1);
  for (const std::uint32_t state : {0U, 0x0001'0000U, 0x0301'ffffU}) {
    const PsciDecision decision = server.call({.function = kCpuSuspend, .arguments = {state, 0, 0}});
    CHECK(decision.action == Action::kStandby);
    CHECK(decision.value == 0);
  }
  CHECK(answer(server, kCpuSuspend, 0x0002'0000) == kInvalidParameters);
  CHECK(answer(server, kCpuSuspend, 0x0400'0000) == kInvalidParameters);
}

TEST_CASE("SYSTEM_OFF and SYSTEM_RESET are for the hypervisor to carry out") {
  PsciServer server(1);
  CHECK(server.call({.function = kSystemOff}).action == Action::kSystemOff);
  CHECK(server.call({.function = kSystemReset}).action == Action::kSystemReset);
}

TEST_CASE("of vCPUs that start the same one at once, one does") {
  for (int round = 0; round < 50; ++round) {
    PsciServer server(4);
    std::atomic<int> starts = 0;
    std::array<std::thread, 3> callers;
    for (std::thread& caller : callers) {
      caller = std::thread([&] {
        const PsciDecision decision = server.call({.function = kCpuOn, .arguments = {3, 0, 0}});
        if (decision.action == Action::kCpuOn) {
          ++starts;
        } else if (static_cast<std::int32_t>(decision.value) != kOnPending) {
          starts = 100;
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(starts == 1);
  }
}

}  // namespace
}  // namespace cadastre
