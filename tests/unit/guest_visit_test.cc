#include "mm/translation/guest_visit.hh"

#include <array>
#include <vector>

#include "tests/unit/walk_guest.hh"

namespace cadastre {
namespace {

// All that a search finds, in steps of `budget`.
template <class Address>
std::vector<std::uint32_t> find_all(Guest& guest, Address page, unsigned budget, std::uint64_t from = 0,
                                    std::uint64_t end = kGuestVirtualEnd) {
  std::vector<std::uint32_t> found;
  for (std::uint64_t at = from; at < end;) {
    const std::uint64_t next =
        find_virtual(guest.mmu, guest, page, at, budget,
                     [&](GuestVirtAddr address, const Stage1Leaf&) { found.push_back(address.value()); });
    REQUIRE(next > at);
    at = next;
  }
  return found;
}

TEST_CASE("every virtual address that reaches a page is found, in bounded steps") {
  ShortGuest guest;
  guest.section(0x8010'0000, 0x0010'0000 | kSection | kSectionRw);
  guest.page(0x9000'3000, 0x0012'3000 | kSmallPage | kPageRw);
  guest.page(0x9000'7000, 0x0012'3000 | kSmallPage | kPageRw);
  for (std::uint32_t i = 0; i < 16; ++i) guest.page(0x9001'0000 + (i << 12), 0x0012'0000 | kLargePage | kPageRw);
  const std::vector<std::uint32_t> all{0x8012'3000, 0x9000'3000, 0x9000'7000, 0x9001'3000};
  CHECK(find_all(guest, IpaAddr(0x12'3456), 100) == all);
  CHECK(find_all(guest, PhysAddr(0x4012'3456), 100) == all);
  guest.mmu.sctlr = 0;
  CHECK(find_all(guest, IpaAddr(0x12'3456), 100) == std::vector<std::uint32_t>{0x12'3000});
}

TEST_CASE("a shut domain hides no mapping, in whichever way the CPU checks domains") {
  for (const bool early : {false, true}) {
    for (const std::uint32_t dacr : {0U, 1U, 0x5555'5555U, 0xaaaa'aaaaU, 0xffff'ffffU}) {
      ShortGuest guest;
      guest.section(0x8010'0000, 0x0010'0000 | kSection | kSectionRw | 3U << 5U);
      guest.page(0x0001'3000, 0x0012'3000 | kSmallPage | kPageRw);
      guest.mmu.early_domain_check = early;
      guest.mmu.dacr = dacr;
      const std::vector<std::uint32_t> all{0x0001'3000, 0x8012'3000};
      CHECK(find_all(guest, IpaAddr(0x12'3456), 100) == all);
      CHECK(find_all(guest, PhysAddr(0x4012'3456), 100) == all);
      std::vector<unsigned> domains;
      visit_stage1(guest.mmu, guest, 0, 10'000,
                   [&](GuestVirtAddr, const Stage1Leaf& leaf) { domains.push_back(leaf.domain); });
      CHECK(domains == std::vector<unsigned>{0, 3});
      CHECK_EQ(guest.mmu.dacr, dacr);
    }
  }
}

TEST_CASE("a physical page that several guest pages share is found behind each") {
  ShortGuest guest;
  guest.page(0x9000'3000, 0x0012'3000 | kSmallPage | kPageRw);
  guest.page(0x9000'4000, 0x0012'4000 | kSmallPage | kPageRw);
  guest.page(0x9000'5000, 0x0012'5000 | kSmallPage | kPageRw);
  guest.memory.pages[0x125].frame = guest.memory.pages[0x123].frame;
  CHECK(find_all(guest, PhysAddr(0x4012'3000), 64) == std::vector<std::uint32_t>{0x9000'3000, 0x9000'5000});
  CHECK(find_all(guest, IpaAddr(0x12'3000), 64) == std::vector<std::uint32_t>{0x9000'3000});
  CHECK(find_all(guest, PhysAddr(0x4012'5000), 64).empty());
}

TEST_CASE("a visit sees each leaf once, and passes over what is empty") {
  ShortGuest guest;
  guest.section(0x8010'0000, 0x0010'0000 | kSection | kSectionRw);
  guest.page(0x9000'3000, 0x0012'3000 | kSmallPage | kPageRw);
  std::vector<std::pair<std::uint32_t, std::uint64_t>> seen;
  const auto visitor = [&](GuestVirtAddr address, const Stage1Leaf& leaf) {
    seen.emplace_back(address.value(), leaf.ipa.value());
  };
  // One step for each section, and 255 more for the pages of one.
  CHECK(visit_stage1(guest.mmu, guest, 0, 4096 + 255, visitor) == kGuestVirtualEnd);
  CHECK(seen == decltype(seen){{0x8010'0000, 0x10'0000}, {0x9000'3000, 0x12'3000}});
  seen.clear();
  CHECK(visit_stage1(guest.mmu, guest, 0x8014'5000, 1, visitor) == 0x8020'0000);
  CHECK(seen == decltype(seen){{0x8014'5000, 0x14'5000}});
}

TEST_CASE("in random address spaces of both formats, the addresses found are those that walk to the page") {
  std::mt19937_64 seeds(test_seed());
  std::size_t found = 0;
  for (unsigned i = 0; i < 60; ++i) {
    RandomGuest guest(seeds());
    guest.memory.missing_level = 3;  // it is pages that are missing
    constexpr std::uint64_t kWindow = 4U << 20;
    const std::uint64_t base = guest.below(kGuestVirtualEnd / kWindow) * kWindow;
    const std::uint64_t page = guest.page();
    const std::uint64_t frame = guest.page() + Guest::kOffset;
    std::vector<std::uint32_t> by_ipa;
    std::vector<std::uint32_t> by_frame;
    for (std::uint64_t at = base; at < base + kWindow; at += kPageSize) {
      const auto address = static_cast<std::uint32_t>(at);
      const auto leaf = stage1_walk(as_client(guest.mmu), guest, GuestVirtAddr(address), Access::kRead);
      if (!leaf) continue;
      if (leaf->ipa.value() == page) by_ipa.push_back(address);
      const auto mapping = guest.translate(leaf->ipa);
      if (mapping && mapping->address.value() == frame) by_frame.push_back(address);
    }
    const auto in_window = [&](std::vector<std::uint32_t> addresses) {
      std::erase_if(addresses, [&](std::uint32_t address) { return address >= base + kWindow; });
      return addresses;
    };
    const auto budget = static_cast<unsigned>(1 + guest.below(100));
    INFO("ttbcr " << guest.mmu.ttbcr << " sctlr " << guest.mmu.sctlr << " base " << base);
    REQUIRE(in_window(find_all(guest, IpaAddr(page), budget, base, base + kWindow)) == by_ipa);
    REQUIRE(in_window(find_all(guest, PhysAddr(frame), budget, base, base + kWindow)) == by_frame);
    found += by_ipa.size() + by_frame.size();
  }
  CHECK(found > 60);
}

}  // namespace
}  // namespace cadastre
