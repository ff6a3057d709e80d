#include "mm/guest/guest_copy.hh"

#include <random>
#include <vector>

#include "tests/unit/small_guest.hh"

namespace cadastre {
namespace {

using Rights = SmallGuest::Rights;

constexpr std::uint32_t kVa = 0x1000'0000;

struct CopyGuest : SmallGuest {
  CopyResult from(std::uint32_t va, std::span<std::byte> to, Access access = Access::kRead,
                  Privilege privilege = Privilege::kPrivileged) {
    return copy_from_guest(mmu, *this, GuestVirtAddr(va), to, access, privilege);
  }
  CopyResult to(std::uint32_t va, std::span<const std::byte> bytes, Privilege privilege = Privilege::kPrivileged) {
    return copy_to_guest(mmu, *this, GuestVirtAddr(va), bytes, privilege);
  }
};

TEST_CASE("bytes are copied across pages that lie anywhere") {
  CopyGuest guest;
  guest.page(kVa, SmallGuest::kRam + 0x2'0000, Rights::kPrivileged);
  guest.page(kVa + 0x1000, SmallGuest::kRam + 0x1'0000, Rights::kPrivileged);
  guest.page(kVa + 0x2000, SmallGuest::kRam + 0x3'0000, Rights::kPrivileged);
  guest.fill(SmallGuest::kRam + 0x1'0000, 0x3'0000);
  std::vector<std::byte> bytes(0x1802);
  REQUIRE(guest.from(kVa + 0xfff, bytes));
  CHECK(bytes[0] == SmallGuest::pattern(SmallGuest::kRam + 0x2'0fff));
  CHECK(bytes[1] == SmallGuest::pattern(SmallGuest::kRam + 0x1'0000));
  CHECK(bytes[0x1001] == SmallGuest::pattern(SmallGuest::kRam + 0x3'0000));
  CHECK(bytes[0x1801] == SmallGuest::pattern(SmallGuest::kRam + 0x3'0800));

  std::ranges::fill(bytes, std::byte{0xa5});
  REQUIRE(guest.to(kVa + 0xfff, bytes));
  CHECK(guest.at(SmallGuest::kRam + 0x2'0ffe) == SmallGuest::pattern(SmallGuest::kRam + 0x2'0ffe));
  CHECK(guest.at(SmallGuest::kRam + 0x2'0fff) == std::byte{0xa5});
  CHECK(guest.at(SmallGuest::kRam + 0x1'0800) == std::byte{0xa5});
  CHECK(guest.at(SmallGuest::kRam + 0x3'0800) == std::byte{0xa5});
  CHECK(guest.at(SmallGuest::kRam + 0x3'0801) == SmallGuest::pattern(SmallGuest::kRam + 0x3'0801));
}

TEST_CASE("a copy ends at the first byte that faults, and says which and why") {
  CopyGuest guest;
  guest.page(kVa, SmallGuest::kRam + 0x1'0000, Rights::kPrivileged);
  guest.fill(SmallGuest::kRam + 0x1'0000, 0x1000);
  std::vector<std::byte> bytes(0x1000, std::byte{0x11});
  const CopyResult result = guest.from(kVa + 0xff0, bytes);
  REQUIRE_FALSE(result);
  CHECK(result.error().done == 0x10);
  CHECK(result.error().address == GuestVirtAddr(kVa + 0x1000));
  CHECK(result.error().fault == GuestFault{.kind = FaultKind::kTranslation, .level = 2});
  CHECK(bytes[0xf] == SmallGuest::pattern(SmallGuest::kRam + 0x1'0fff));
  CHECK(bytes[0x10] == std::byte{0x11});
}

TEST_CASE("the guest's own rights hold for the hypervisor's copies") {
  CopyGuest guest;
  guest.page(kVa, SmallGuest::kRam + 0x1'0000, Rights::kUserReads, /*execute=*/false);
  guest.page(kVa + 0x1000, SmallGuest::kRam + 0x1'1000, Rights::kReadOnly);
  std::array<std::byte, 8> bytes{};
  CHECK(guest.from(kVa, bytes, Access::kRead, Privilege::kUser));
  CHECK(guest.to(kVa, bytes, Privilege::kPrivileged));
  CHECK(guest.to(kVa, bytes, Privilege::kUser).error().fault.kind == FaultKind::kPermission);
  CHECK(guest.from(kVa, bytes, Access::kExecute).error().fault.kind == FaultKind::kPermission);
  CHECK(guest.from(kVa + 0x1000, bytes, Access::kExecute, Privilege::kUser));
  const CopyResult crossing = guest.to(kVa + 0xffc, bytes);
  CHECK(crossing.error().done == 4);
  CHECK(crossing.error().address == GuestVirtAddr(kVa + 0x1000));
}

TEST_CASE("what the guest has not touched yet is populated, what is write-protected opened") {
  CopyGuest guest;
  guest.page(kVa, SmallGuest::kRam + 0x8'0000, Rights::kPrivileged);
  guest.faults = 0;
  std::array<std::byte, 4> bytes{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  REQUIRE(guest.to(kVa, bytes));
  CHECK(guest.faults == 1);
  guest.protected_pages.insert((SmallGuest::kRam + 0x8'0000) / kPageSize);
  REQUIRE(guest.from(kVa, bytes));
  CHECK(guest.faults == 1);
  REQUIRE(guest.to(kVa, bytes));
  CHECK(guest.faults == 2);
  CHECK(guest.peek(SmallGuest::kRam + 0x8'0000) == 0x0403'0201);
}

TEST_CASE("a fault of stage 2 that nobody answers is told, and asking for it ends") {
  CopyGuest guest;
  guest.page(kVa, 0x7000'0000, Rights::kPrivileged);
  std::array<std::byte, 4> bytes{};
  const CopyResult nothing = guest.from(kVa, bytes);
  CHECK(nothing.error().fault ==
        GuestFault{.kind = FaultKind::kTranslation, .level = 3, .stage2 = true, .ipa = IpaAddr(0x7000'0000)});
  guest.page(kVa, SmallGuest::kRam + 0x1'0000, Rights::kPrivileged);
  guest.fill(SmallGuest::kRam + 0x1'0000, 4);
  guest.protected_pages.insert((SmallGuest::kRam + 0x1'0000) / kPageSize);
  guest.stay_protected = true;
  guest.faults = 0;
  CHECK(guest.to(kVa, bytes).error().fault.kind == FaultKind::kPermission);
  CHECK(guest.faults == 8);
  // Not even the tables are there.
  CopyGuest empty;
  empty.mmu.ttbr0 = SmallGuest::kRam + 0x8000;
  empty.refuse = true;
  CHECK(empty.from(kVa, bytes).error().fault.on_walk);
}

TEST_CASE("a device that is mapped is not read by a copy") {
  CopyGuest guest;
  guest.section(0x800'0000, 0x800'0000, Rights::kPrivileged);
  guest.devices.insert(0x801'0000 / kPageSize);
  std::array<std::byte, 4> bytes{};
  const CopyResult result = guest.from(0x801'0000, bytes);
  CHECK(result.error().fault ==
        GuestFault{.kind = FaultKind::kExternal, .level = 0, .stage2 = true, .ipa = IpaAddr(0x801'0000)});
}

TEST_CASE("random copies agree with a byte at a time") {
  std::mt19937_64 random(test_seed());
  CopyGuest guest;
  constexpr std::uint32_t kPages = 16;
  for (std::uint32_t i = 0; i < kPages; ++i) {
    if (random() % 4 == 0) continue;
    constexpr std::array kRights = {Rights::kPrivileged, Rights::kUserReads, Rights::kAll, Rights::kReadOnly};
    guest.page(kVa + i * 0x1000, SmallGuest::kRam + 0x1'0000 + static_cast<std::uint32_t>(random() % 32) * 0x1000,
               kRights[random() % 4], random() % 2 == 0);
  }
  for (unsigned round = 0; round < 2000; ++round) {
    const auto va = kVa + static_cast<std::uint32_t>(random() % (kPages * kPageSize));
    const auto privilege = random() % 2 == 0 ? Privilege::kUser : Privilege::kPrivileged;
    std::vector<std::byte> bytes(random() % 64 == 0 ? random() % 0x3000 : random() % 32);
    if (random() % 2 == 0) {
      for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
      const CopyResult result = guest.to(va, bytes, privilege);
      const std::size_t done = result ? bytes.size() : result.error().done;
      for (std::size_t i = 0; i < done; ++i) {
        // What a later page's write overwrote through another address of the same page is not compared.
        std::byte byte{};
        const auto back = guest.from(va + static_cast<std::uint32_t>(i), {&byte, 1});
        REQUIRE(back);
        if (done <= kPageSize) REQUIRE(byte == bytes[i]);
      }
      if (done < bytes.size())
        REQUIRE_FALSE(guest.to(va + static_cast<std::uint32_t>(done), {&bytes[done], 1}, privilege));
      continue;
    }
    const auto access = random() % 2 == 0 ? Access::kRead : Access::kExecute;
    const CopyResult result = guest.from(va, bytes, access, privilege);
    const std::size_t done = result ? bytes.size() : result.error().done;
    for (std::size_t i = 0; i < done; ++i) {
      std::byte byte{};
      REQUIRE(guest.from(va + static_cast<std::uint32_t>(i), {&byte, 1}, access, privilege));
      REQUIRE(byte == bytes[i]);
    }
    if (done < bytes.size()) {
      std::byte byte{};
      REQUIRE_FALSE(guest.from(va + static_cast<std::uint32_t>(done), {&byte, 1}, access, privilege));
    }
  }
}

}  // namespace
}  // namespace cadastre
