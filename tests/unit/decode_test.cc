#include "hyp/emulate/decode.hh"

#include <random>
#include <string>

#include "mm/base/format.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr std::array<std::uint32_t, 16> kRegisters = {0x1'0000, 0x2'0000, 0x3'0000, 0x6,      0x5'0000, 0x6'0000,
                                                      0x7'0000, 0x20,     0x9'0000, 0xa'0000, 0xb'0000, 0xc'0000,
                                                      0xd'0000, 0xe'0000, 0xf'0000, 0x8000};

// As "ldr4 0x1000 r1 r2 r3=0x2000": direction, size and sign, first address, registers, new base.
std::string text(const std::optional<MemoryAccess>& access) {
  if (!access) return "none";
  char buffer[200];
  std::string result(format_to(buffer, "{}{}{}{} {:x}", access->load ? "ld" : "st", access->size,
                               access->sign_extend ? "s" : "", access->unprivileged ? "t" : "", access->address));
  for (unsigned i = 0; i < access->count; ++i) result += format_to(buffer, " r{}", access->registers[i]);
  if (access->write_back) result += format_to(buffer, " r{}={:x}", access->base, access->new_base);
  return result;
}
std::string arm(std::uint32_t instruction, bool carry = false) {
  return text(decode_arm(instruction, kRegisters, carry));
}
std::string thumb(std::uint16_t first, std::uint16_t second = 0) {
  auto registers = kRegisters;
  registers[15] += 2;
  return text(decode_thumb(first, second, registers));
}

TEST_CASE("ARM loads and stores of one register, with every kind of offset and write-back") {
  CHECK(arm(0xe5921008) == "ld4 0x30008 r1");                   // ldr r1, [r2, #8]
  CHECK(arm(0xe5221004) == "st4 0x2fffc r1 r2=0x2fffc");        // str r1, [r2, #-4]!
  CHECK(arm(0xe4d43001) == "ld1 0x50000 r3 r4=0x50001");        // ldrb r3, [r4], #1
  CHECK(arm(0xe7865107) == "st4 0x70080 r5");                   // str r5, [r6, r7, lsl #2]
  CHECK(arm(0xe7365467) == "ld4 0xe0070000 r5 r6=0xe0070000");  // ldr r5, [r6, -r7, ror #8]!
  CHECK(arm(0xe7921063) == "ld4 0x30003 r1");                   // ldr r1, [r2, r3, rrx]
  CHECK(arm(0xe7921063, true) == "ld4 0x80030003 r1");
  CHECK(arm(0xe59f0010) == "ld4 0x8018 r0");    // ldr r0, [pc, #16]
  CHECK(arm(0xe581f000) == "st4 0x20000 r15");  // str pc, [r1]
  CHECK(decode_arm(0xe581f000, kRegisters, false).value_or(MemoryAccess{}).stored_pc == 0x8008);
  CHECK(arm(0xe4b21004) == "ld4t 0x30000 r1 r2=0x30004");  // ldrt r1, [r2], #4
  CHECK(arm(0xe1d210b6) == "ld2 0x30006 r1");              // ldrh r1, [r2, #6]
  CHECK(arm(0xe08210b3) == "st2 0x30000 r1 r2=0x30006");   // strh r1, [r2], r3
  CHECK(arm(0xe17210d3) == "ld1s 0x2fffd r1 r2=0x2fffd");  // ldrsb r1, [r2, #-3]!
  CHECK(arm(0xe1d210f0) == "ld2s 0x30000 r1");             // ldrsh r1, [r2]
}

TEST_CASE("ARM loads and stores of more registers") {
  CHECK(arm(0xe1c420d8) == "ld4 0x50008 r2 r3");                  // ldrd r2, r3, [r4, #8]
  CHECK(arm(0xe04420f8) == "st4 0x50000 r2 r3 r4=0x4fff8");       // strd r2, r3, [r4], #-8
  CHECK(arm(0xe8918014) == "ld4 0x20000 r2 r4 r15");              // ldm r1, {r2, r4, pc}
  CHECK(arm(0xe92d4003) == "st4 0xdfff4 r0 r1 r14 r13=0xdfff4");  // push {r0, r1, lr}
  CHECK(arm(0xe9930021) == "ld4 0xa r0 r5");                      // ldmib r3, {r0, r5}
  CHECK(arm(0xe8230021) == "st4 0x2 r0 r5 r3=0xfffffffe");        // stmda r3!, {r0, r5}
  CHECK(arm(0xe8b10006) == "ld4 0x20000 r1 r2");                  // ldm r1!, {r1, r2}: the loaded base stays
}

TEST_CASE("ARM instructions that are not emulated") {
  CHECK(arm(0xe1921f9f) == "none");  // ldrex r1, [r2]
  CHECK(arm(0xe1a40f92) == "none");  // strexd r0, r2, r3, [r4]
  CHECK(arm(0xe1020091) == "none");  // swp r0, r1, [r2]
  CHECK(arm(0xe8dd0003) == "none");  // ldm sp, {r0, r1}^
  CHECK(arm(0xf5d0f000) == "none");  // pld [r0]
  CHECK(arm(0xe0810002) == "none");  // add r0, r1, r2
  CHECK(arm(0xed910b00) == "none");  // vldr d0, [r1]
  CHECK(arm(0xe8910000) == "none");  // ldm r1, {}
  CHECK(arm(0xe1c430d8) == "none");  // ldrd r3, r4: an odd register
  CHECK(arm(0xe5b11004) == "none");  // ldr r1, [r1, #4]!
}

TEST_CASE("Thumb instructions of 16 bits") {
  CHECK(thumb(0x58d1) == "ld4 0x30006 r1");                     // ldr r1, [r2, r3]
  CHECK(thumb(0x56d1) == "ld1s 0x30006 r1");                    // ldrsb r1, [r2, r3]
  CHECK(thumb(0x5fac) == "ld2s 0xd0000 r4");                    // ldrsh r4, [r5, r6]
  CHECK(thumb(0x52d1) == "st2 0x30006 r1");                     // strh r1, [r2, r3]
  CHECK(thumb(0x6891) == "ld4 0x30008 r1");                     // ldr r1, [r2, #8]
  CHECK(thumb(0x7151) == "st1 0x30005 r1");                     // strb r1, [r2, #5]
  CHECK(thumb(0x88d1) == "ld2 0x30006 r1");                     // ldrh r1, [r2, #6]
  CHECK(thumb(0x9304) == "st4 0xe0010 r3");                     // str r3, [sp, #16]
  CHECK(thumb(0x4b02) == "ld4 0x800c r3");                      // ldr r3, [pc, #8]
  CHECK(thumb(0xb503) == "st4 0xdfff4 r0 r1 r14 r13=0xdfff4");  // push {r0, r1, lr}
  CHECK(thumb(0xbd01) == "ld4 0xe0000 r0 r15 r13=0xe0008");     // pop {r0, pc}
  CHECK(thumb(0xc90c) == "ld4 0x20000 r2 r3 r1=0x20008");       // ldm r1!, {r2, r3}
  CHECK(thumb(0xc90a) == "ld4 0x20000 r1 r3");                  // ldm r1, {r1, r3}
  CHECK(thumb(0xc10c) == "st4 0x20000 r2 r3 r1=0x20008");       // stm r1!, {r2, r3}
  CHECK(thumb(0x4408) == "none");                               // add r0, r1
  CHECK(decode_thumb(0x58d1, 0, kRegisters).value_or(MemoryAccess{}).length == 2);
}

TEST_CASE("Thumb instructions of 32 bits") {
  CHECK(is_wide(0xe898));
  CHECK_FALSE(is_wide(0xe7fe));
  CHECK(thumb(0xe898, 0x8201) == "ld4 0x90000 r0 r9 r15");         // ldm.w r8, {r0, r9, pc}
  CHECK(thumb(0xe928, 0x0201) == "st4 0x8fff8 r0 r9 r8=0x8fff8");  // stmdb r8!, {r0, r9}
  CHECK(thumb(0xe972, 0x1702) == "ld4 0x2fff8 r1 r7 r2=0x2fff8");  // ldrd r1, r7, [r2, #-8]!
  CHECK(thumb(0xe8e2, 0x7103) == "st4 0x30000 r7 r1 r2=0x3000c");  // strd r7, r1, [r2], #12
  CHECK(thumb(0xf8d2, 0x1fff) == "ld4 0x30fff r1");                // ldr.w r1, [r2, #4095]
  CHECK(thumb(0xf852, 0x1c08) == "ld4 0x2fff8 r1");                // ldr r1, [r2, #-8]
  CHECK(thumb(0xf842, 0x9908) == "st4 0x30000 r9 r2=0x2fff8");     // str r9, [r2], #-8
  CHECK(thumb(0xf802, 0x9f08) == "st1 0x30008 r9 r2=0x30008");     // strb r9, [r2, #8]!
  CHECK(thumb(0xf912, 0x9033) == "ld1s 0x30030 r9");               // ldrsb.w r9, [r2, r3, lsl #3]
  CHECK(thumb(0xf852, 0x1e04) == "ld4t 0x30004 r1");               // ldrt r1, [r2, #4]
  CHECK(thumb(0xf93f, 0x1014) == "ld2s 0x7ff0 r1");                // ldrsh.w r1, [pc, #-20]
  CHECK(thumb(0xf8d2, 0xf004) == "ld4 0x30004 r15");               // ldr.w pc, [r2, #4]
  CHECK(thumb(0xf822, 0x1003) == "st2 0x30006 r1");                // strh.w r1, [r2, r3]
  CHECK(thumb(0xf892, 0xf004) == "none");                          // pld [r2, #4]
  CHECK(thumb(0xe852, 0x1f00) == "none");                          // ldrex r1, [r2]
  CHECK(thumb(0xe8d0, 0xf001) == "none");                          // tbb [r0, r1]
  CHECK(thumb(0xed91, 0x0b00) == "none");                          // vldr d0, [r1]
}

TEST_CASE("what a load leaves in its register is as wide as it read, with its sign if asked for") {
  MemoryAccess access;
  CHECK(access.loaded(0xffff'fffe) == 0xffff'fffe);
  access.size = 2;
  CHECK(access.loaded(0x1234'8765) == 0x8765);
  access.sign_extend = true;
  CHECK(access.loaded(0x1234'8765) == 0xffff'8765);
  access.size = 1;
  CHECK(access.loaded(0x7f) == 0x7f);
  CHECK(access.loaded(0x80) == 0xffff'ff80);
}

TEST_CASE("no instruction, whatever its bits, decodes to more than it can transfer") {
  std::mt19937_64 random(test_seed());
  for (unsigned i = 0; i < 200'000; ++i) {
    const auto bits = static_cast<std::uint32_t>(random());
    for (const auto& access :
         {decode_arm(bits, kRegisters, (i & 1) != 0),
          decode_thumb(static_cast<std::uint16_t>(bits), static_cast<std::uint16_t>(bits >> 16), kRegisters)}) {
      if (!access) continue;
      REQUIRE(access->count >= 1);
      REQUIRE(access->count <= 16);
      REQUIRE((access->size == 1 || access->size == 2 || access->size == 4));
      REQUIRE((access->count == 1 || access->size == 4));
      REQUIRE(access->base < 16);
      for (const unsigned number : access->registers) REQUIRE(number < 16);
    }
  }
}

}  // namespace
}  // namespace cadastre
