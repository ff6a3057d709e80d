#include "mm/translation/guest_walk.hh"

#include <random>
#include <vector>

#include "tests/unit/walk_guest.hh"

namespace cadastre {
namespace {

TEST_CASE("with the MMU off an address is its IPA, with all rights") {
  Guest guest;
  guest.mmu.sctlr = 0;
  guest.map(0x5000);
  CHECK(guest.physical(0x5678, Access::kWrite, Privilege::kUser) == PhysAddr(0x4000'5678));
  CHECK(guest.memory_type(0x5678).mair == kMairStronglyOrdered);
  CHECK(guest.memory_type(0x5678, Access::kExecute).mair == kMairNonCacheable);
  guest.mmu.hcr = GuestMmu::kHcrDefaultCacheable;
  guest.mmu.sctlr = 1;
  CHECK(guest.memory_type(0x5678).mair == kMairWriteBack);
  CHECK(guest.reads == 0);
}

TEST_CASE("sections, supersections, large and small pages") {
  ShortGuest guest;
  guest.section(0x8010'0000, 0x0010'0000 | kSection | kSectionRw);
  CHECK(guest.physical(0x8011'2345) == PhysAddr(0x4011'2345));
  guest.page(0x9000'3000, 0x0012'3000 | kSmallPage | kPageRw);
  CHECK(guest.physical(0x9000'3abc) == PhysAddr(0x4012'3abc));
  guest.page(0x9004'5000, 0x0013'0000 | kLargePage | kPageRw);
  CHECK(guest.physical(0x9004'5abc) == PhysAddr(0x4013'5abc));
  // 16 MiB at 0xab_1200_0000
  guest.map(0xab'1234'5000);
  for (std::uint32_t i = 0; i < 16; ++i) {
    guest.section(0xc000'0000 + (i << 20), 0x12b0'0000 | 1U << 18 | 0xa << 5 | kSection | kSectionRw);
  }
  CHECK(guest.physical(0xc034'5678) == PhysAddr(0xab'1234'5678 + Guest::kOffset));
}

TEST_CASE("TTBCR.N gives the low part to TTBR0 with a shorter table, the rest to TTBR1; PD0 and PD1 turn each off") {
  ShortGuest guest;
  guest.mmu.ttbcr = 2;  // TTBR0: the low GiB, a table of 4 KiB
  guest.mmu.ttbr0 = 0x1000;
  guest.mmu.ttbr1 = 0x4000;
  guest.set32(0x1000 + 0x3ff * 4, 0x0010'0000 | kSection | kSectionRw);
  guest.section(0x4000'0000, 0x0020'0000 | kSection | kSectionRw);
  CHECK(guest.physical(0x3ff0'0004) == PhysAddr(0x4010'0004));
  CHECK(guest.physical(0x4000'0004) == PhysAddr(0x4020'0004));
  guest.mmu.ttbcr = 2 | 1 << 4;
  CHECK(guest.fault(0x3ff0'0004) == GuestFault{});
  CHECK(guest.physical(0x4000'0004) == PhysAddr(0x4020'0004));
  guest.mmu.ttbcr = 2 | 1 << 5;
  CHECK(guest.fault(0x4000'0004) == GuestFault{});
}

TEST_CASE("each fault of the short format has its level, its domain and its DFSR") {
  ShortGuest guest;
  CHECK(dfsr_of(guest.fault(0x1234'5678), false, Access::kRead) == 0x005);
  guest.page(0x9000'0000, 0, 5 << 5);
  CHECK(dfsr_of(guest.fault(0x9000'0000), false, Access::kWrite) == 0x857);
  guest.page(0x9000'0000, 0x12'3000 | kSmallPage | kPageRw, 5 << 5);
  CHECK(dfsr_of(guest.fault(0x9000'0000), false, Access::kRead) == 0x05b);
  guest.mmu.dacr = 2;  // reserved: as no access
  guest.section(0x8000'0000, kSection | kSectionRw);
  CHECK(dfsr_of(guest.fault(0x8000'0000), false, Access::kRead) == 0x009);
  guest.mmu.dacr = 1;
  guest.section(0x8000'0000, kSection | 1 << 10);
  CHECK(dfsr_of(guest.fault(0x8000'0000, Access::kRead, Privilege::kUser), false, Access::kRead) == 0x00d);
  guest.page(0x9000'0000, 0x12'3000 | kSmallPage | 1 << 4);
  CHECK(ifsr_of(guest.fault(0x9000'0000, Access::kExecute, Privilege::kUser), false) == 0x00f);
  guest.mmu.sctlr |= sctlr::kAccessFlag;
  guest.page(0x9000'0000, 0x12'3000 | kSmallPage | 2 << 4);
  CHECK(ifsr_of(guest.fault(0x9000'0000, Access::kExecute), false) == 0x006);
  guest.section(0x8000'0000, kSection | 2 << 10);
  CHECK(ifsr_of(guest.fault(0x8000'0000, Access::kExecute), false) == 0x003);
  guest.memory.nothing[0x4000 + Guest::kOffset] = true;
  CHECK(dfsr_of(guest.fault(0x1234'5678), false, Access::kRead) == 0x00c);
}

TEST_CASE("a manager of the domain may do all, a client what AP, XN and PXN say") {
  ShortGuest guest;
  guest.page(0x9000'0000, 0x12'3000 | kSmallPage | 1);  // AP 000, XN
  CHECK(guest.fault(0x9000'0000).kind == FaultKind::kPermission);
  guest.mmu.dacr = 3;
  CHECK(guest.physical(0x9000'0000, Access::kExecute, Privilege::kUser) == PhysAddr(0x4012'3000));
  guest.mmu.dacr = 1;
  guest.page(0x9000'0000, 0x12'3000 | kSmallPage | kPageRw, 1 << 2);
  CHECK(guest.fault(0x9000'0000, Access::kExecute).kind == FaultKind::kPermission);
  CHECK(guest.walk(0x9000'0000, Access::kExecute, Privilege::kUser));
  guest.mmu.sctlr |= sctlr::kWriteNever;
  CHECK(guest.fault(0x9000'0000, Access::kExecute, Privilege::kUser).kind == FaultKind::kPermission);
}

TEST_CASE("a table that stage 2 does not map, or maps without the right to read, is a stage-2 fault on the walk") {
  ShortGuest guest;
  guest.page(0x9000'0000, 0x12'3000 | kSmallPage | kPageRw);
  guest.memory.pages.erase(8);
  guest.memory.missing_level = 2;
  CHECK(guest.fault(0x9000'0004) == GuestFault{.kind = FaultKind::kTranslation,
                                               .level = 2,
                                               .stage2 = true,
                                               .on_walk = true,
                                               .walk_level = 2,
                                               .ipa = IpaAddr(0x8000)});
  CHECK(guest.par(0x9000'0004) == (1 << 11 | 1 << 9 | 1 << 8 | 0b000110 << 1 | 1));
  guest.map(0x8000, Stage2Attributes::ram().with_read(false));
  CHECK(guest.par(0x9000'0004) == (1 << 11 | 1 << 9 | 1 << 8 | 0b001111 << 1 | 1));
  guest.map(0x8000, Stage2Attributes::device());
  CHECK(guest.walk(0x9000'0004));
  guest.mmu.hcr = GuestMmu::kHcrProtectedWalk;
  CHECK(guest.fault(0x9000'0004).kind == FaultKind::kPermission);
}

TEST_CASE("what stage 2 forbids is a stage-2 fault of the access, with its IPA") {
  ShortGuest guest;
  guest.page(0x9000'0000, 0x12'3000 | kSmallPage | kPageRw);
  guest.map(0x12'3000, Stage2Attributes::ram().with_write(false).with_execute(false));
  CHECK(guest.walk(0x9000'0000));
  CHECK(guest.fault(0x9000'0008, Access::kWrite) ==
        GuestFault{.kind = FaultKind::kPermission, .level = 3, .stage2 = true, .ipa = IpaAddr(0x12'3008)});
  CHECK(guest.fault(0x9000'0008, Access::kExecute).stage2);
}

TEST_CASE("PAR of a good translation: address, memory type and shareability of both stages") {
  ShortGuest guest;
  guest.mmu.sctlr |= sctlr::kTexRemap;
  guest.mmu.prrr = 0xff0a81a8;  // as Linux sets them
  guest.mmu.nmrr = 0x40e040e0;
  // Index 7 (TEX[0], C, B), shared: write-back write-allocate, inner shareable.
  guest.page(0x9000'0000, 0x12'3000 | kSmallPage | kPageRw | 1 << 6 | 3 << 2 | 1 << 10);
  CHECK(guest.par(0x9000'0abc) == (0xffULL << 56 | 0x4012'3000 | 1 << 11 | 1 << 9 | 3 << 7));
  guest.map(0x12'3000, Stage2Attributes::of(Stage2Memory::kNonCacheable));
  CHECK(guest.par(0x9000'0abc) == (0x44ULL << 56 | 0x4012'3000 | 1 << 11 | 1 << 9 | 2 << 7));
  guest.map(0x12'3000, Stage2Attributes::device());
  CHECK(guest.par(0x9000'0abc) == (0x04ULL << 56 | 0x4012'3000 | 1 << 11 | 1 << 9 | 2 << 7));
}

// Tables at 0x1000 (level 1), 0x2000, 0x3000.
struct LongGuest : Guest {
  LongGuest() {
    mmu.ttbcr = 1U << 31;
    mmu.ttbr0 = 0x1000;
    mmu.prrr = 0x00'44'04'ff;
    map(0, Stage2Attributes::ram(), 0x40'0000);
  }
};

TEST_CASE("long descriptors: pages and blocks of 2 MiB and 1 GiB, TTBR0 and TTBR1 by T0SZ and T1SZ") {
  LongGuest guest;
  constexpr Entry kLeaf = kAccessFlag | 1;
  guest.map(0x4000'0000);
  guest.set64(0x1008, 0x4000'0000 | kLeaf);
  CHECK(guest.physical(0x4000'0008) == PhysAddr(0x8000'0008));
  guest.set64(0x1010, 0x2000 | 3);
  guest.set64(0x2008, 0x20'0000 | kLeaf);
  CHECK(guest.physical(0x8034'5678) == PhysAddr(0x4034'5678));
  guest.set64(0x2000, 0x3000 | 3);
  guest.set64(0x3008, 0x12'3000 | kLeaf | 2);
  CHECK(guest.physical(0x8000'1abc) == PhysAddr(0x4012'3abc));
  guest.mmu.ttbcr = 1U << 31 | 2 | 1 << 16;  // 1 GiB from TTBR0, at level 2; the upper half from TTBR1
  guest.mmu.ttbr0 = 0x2000;
  guest.mmu.ttbr1 = 0x1000;
  CHECK(guest.physical(0x0000'1abc) == PhysAddr(0x4012'3abc));
  CHECK(guest.physical(0xc000'0008) == PhysAddr(0x8000'0008));
  CHECK(dfsr_of(guest.fault(0x4000'0000), true, Access::kRead) == 0x205);  // in neither
  guest.mmu.ttbcr |= 1 << 7;
  CHECK(dfsr_of(guest.fault(0x1abc), true, Access::kRead) == 0x205);
}

TEST_CASE("long descriptors: tables above take rights away, the access flag faults") {
  LongGuest guest;
  const auto with_table = [&](Entry table_bits, Entry leaf_bits) {
    guest.set64(0x1000, 0x2000 | 3 | table_bits);
    guest.set64(0x2000, 0x3000 | 3);
    guest.set64(0x3000, 0x12'3000 | 3 | leaf_bits);
  };
  with_table(0, kAccessFlag | 1 << 6);
  CHECK(guest.walk(0, Access::kWrite, Privilege::kUser));
  with_table(1ULL << 61, kAccessFlag | 1 << 6);
  CHECK(guest.fault(0, Access::kRead, Privilege::kUser).level == 3);
  CHECK(guest.walk(0, Access::kWrite));
  with_table(1ULL << 62, kAccessFlag | 1 << 6);
  CHECK(guest.fault(0, Access::kWrite).kind == FaultKind::kPermission);
  CHECK(guest.walk(0, Access::kRead, Privilege::kUser));
  with_table(1ULL << 60, kAccessFlag | 1 << 6);
  CHECK(guest.fault(0, Access::kExecute, Privilege::kUser).kind == FaultKind::kPermission);
  with_table(1ULL << 59, kAccessFlag | 1 << 6);
  CHECK(guest.fault(0, Access::kExecute).kind == FaultKind::kPermission);
  CHECK(guest.walk(0, Access::kExecute, Privilege::kUser));
  with_table(0, 1 << 6);
  CHECK(dfsr_of(guest.fault(0), true, Access::kWrite) == 0xa0b);
  guest.set64(0x3000, 0x12'3000 | 1 | kAccessFlag);  // a block at level 3 is no descriptor
  CHECK(dfsr_of(guest.fault(0), true, Access::kRead) == 0x207);
}

TEST_CASE("tables of a big-endian guest are read as it wrote them") {
  ShortGuest guest;
  guest.mmu.sctlr |= sctlr::kExceptionEndian;
  guest.section(0x8010'0000, std::byteswap(0x0010'0000 | kSection | kSectionRw));
  CHECK(guest.physical(0x8010'0004) == PhysAddr(0x4010'0004));
}

TEST_CASE("the trace has every descriptor, each read once") {
  ShortGuest guest;
  guest.page(0x9000'3000, 0x0012'3000 | kSmallPage | kPageRw);
  std::vector<WalkStep> steps;
  guest.reads = 0;
  REQUIRE(guest_walk(guest.mmu, guest, GuestVirtAddr(0x9000'3abc), Access::kRead, Privilege::kUser,
                     [&](const WalkStep& step) { steps.push_back(step); }));
  REQUIRE(steps.size() == 2);
  CHECK(guest.reads == 2);
  CHECK(steps[0].address == IpaAddr(0x4000 + 0x900 * 4));
  CHECK(steps[0].physical == PhysAddr(0x4000'4000 + 0x900 * 4));
  CHECK(steps[1].level == 2);
  CHECK(steps[1].entry == (0x0012'3000 | kSmallPage | kPageRw));
}

TEST_CASE("a CPU that checks domains early differs in just that") {
  ShortGuest guest;
  guest.page(0x9000'0000, 0, 5 << 5);
  CHECK(guest.fault(0x9000'0000).kind == FaultKind::kTranslation);
  guest.mmu.early_domain_check = true;
  CHECK(guest.fault(0x9000'0000) == GuestFault{.kind = FaultKind::kDomain, .level = 2, .domain = 5});
  guest.mmu.sctlr |= sctlr::kAccessFlag;
  guest.section(0x8000'0000, kSection);
  guest.mmu.dacr = 3;
  CHECK(guest.walk(0x8000'0000));
  guest.mmu.early_domain_check = false;
  CHECK(guest.fault(0x8000'0000).kind == FaultKind::kAccessFlag);
  // A section of a domain without access whose access flag is clear, and a page of one with access.
  guest.mmu.dacr = 1U << 10;
  CHECK(guest.fault(0x8000'0000).kind == FaultKind::kAccessFlag);
  guest.page(0x9000'1000, 0x12'3000 | kSmallPage | kPageRw, 5 << 5);
  guest.mmu.early_domain_check = true;
  CHECK(guest.fault(0x8000'0000).kind == FaultKind::kDomain);
  CHECK(guest.walk(0x9000'1000));
}

TEST_CASE("what is not global says so, in sections and in pages") {
  ShortGuest guest;
  for (const bool global : {true, false}) {
    guest.section(0x8000'0000, kSection | kSectionRw | (global ? 0U : 1U << 17));
    guest.page(0x9000'3000, 0x0012'3000 | kSmallPage | kPageRw | (global ? 0U : 1U << 11));
    for (const std::uint32_t address : {0x8000'0000U, 0x9000'3000U}) {
      const auto result = guest.walk(address);
      REQUIRE(result);
      CHECK(result->stage1.global == global);
    }
  }
}

// ---- Random guests against the reference

model::Answer answer_of(const GuestMmu& mmu, const WalkResult<GuestTranslation>& result) {
  static constexpr const char* kNames[] = {"translation", "access flag", "domain", "permission", "external"};
  if (!result) {
    const GuestFault& fault = result.error();
    return {.what = kNames[static_cast<unsigned>(fault.kind)],
            .level = fault.level,
            .domain = fault.domain,
            .stage2 = fault.stage2,
            .on_walk = fault.on_walk};
  }
  const MemoryType memory = memory_of(mmu, *result);
  return {.what = "ok",
          .physical = result->physical.value(),
          .mair = memory.mair,
          .sh = static_cast<unsigned>(memory.shareability)};
}

TEST_CASE("random tables in both formats translate as the reference does, for every access") {
  std::mt19937_64 seeds(test_seed());
  unsigned good = 0;
  unsigned total = 0;
  for (unsigned i = 0; i < 150; ++i) {
    RandomGuest guest(seeds());
    const model::Registers registers{guest.mmu.sctlr, guest.mmu.ttbcr, guest.mmu.dacr,  guest.mmu.prrr,
                                     guest.mmu.nmrr,  guest.mmu.hcr,   guest.mmu.ttbr0, guest.mmu.ttbr1};
    for (unsigned j = 0; j < 200; ++j, ++total) {
      const std::uint32_t va = guest.address();
      const auto access = static_cast<Access>(guest.below(3));
      const auto privilege = static_cast<Privilege>(guest.below(2));
      const model::Answer expected = model::ReferenceWalk(registers, guest.memory, access, privilege).translate(va);
      const model::Answer found = answer_of(guest.mmu, guest.walk(va, access, privilege));
      if (found.what == "ok") ++good;
      INFO("va " << va << " ttbcr " << guest.mmu.ttbcr << " sctlr " << guest.mmu.sctlr);
      INFO("expected " << expected.what << " level " << expected.level << ", found " << found.what << " "
                       << found.level);
      INFO("mair " << expected.mair << " " << found.mair << " sh " << expected.sh << " " << found.sh);
      REQUIRE(found == expected);
    }
  }
  CHECK(good > total / 50);
}

}  // namespace
}  // namespace cadastre
