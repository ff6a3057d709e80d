#include "hyp/emulate/backtrace.hh"

#include <map>
#include <optional>
#include <random>
#include <vector>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

using Addresses = std::vector<std::uint32_t>;

constexpr std::uint32_t kText = 0x8000'0000;
constexpr std::uint32_t kStack = 0x9000'0000;

// Words of text, which can be read and executed, and of stack, which can be read.
struct Words {
  std::optional<std::uint32_t> operator()(GuestVirtAddr address, Access access) {
    if (access == Access::kExecute && address.value() >= kStack) return std::nullopt;
    const auto found = words.find(address.value());
    if (found == words.end()) return std::nullopt;
    return found->second;
  }
  // A call in ARM state: its return address.
  std::uint32_t call(std::uint32_t at, std::uint32_t instruction = 0xeb00'0000) {
    words[at] = instruction;
    return at + 4;
  }
  Addresses frames(std::uint32_t frame_pointer, unsigned most = 8) {
    Addresses found;
    follow_frames(*this, frame_pointer, most, [&](std::uint32_t address) { found.push_back(address); });
    return found;
  }
  Addresses scan(std::uint32_t stack_pointer, unsigned count = 64, unsigned most = 8) {
    Addresses found;
    scan_stack(*this, stack_pointer, count, most, [&](std::uint32_t address) { found.push_back(address); });
    return found;
  }

  std::map<std::uint32_t, std::uint32_t> words;
};

TEST_CASE("a return address is one behind a call, in either state") {
  Words w;
  for (const std::uint32_t call : {0xeb00'0001U, 0x0bff'fffeU, 0xfa00'0000U, 0xfb00'0000U, 0xe12f'ff33U}) {
    CHECK(is_return_address(w, w.call(kText, call)));
  }
  for (const std::uint32_t other : {0xea00'0001U, 0xe1a0'0000U, 0xe12f'ff13U, 0xf12f'ff33U}) {
    CHECK_FALSE(is_return_address(w, w.call(kText, other)));
  }
  CHECK_FALSE(is_return_address(w, kText + 6));
  CHECK_FALSE(is_return_address(w, kStack + 4));
  w.words[kStack] = 0xeb00'0000;
  CHECK_FALSE(is_return_address(w, kStack + 4));

  w.words[kText] = 0xf800'f000;  // bl, the first halfword below
  CHECK(is_return_address(w, kText + 5));
  w.words[kText] = 0x4798'bf00;  // nop; blx r3
  CHECK(is_return_address(w, kText + 5));
  w.words[kText] = 0xbf00'4798;  // blx r3; nop
  CHECK_FALSE(is_return_address(w, kText + 5));
  CHECK(is_return_address(w, kText + 3));
  w.words[kText] = 0xf000'bf00;  // bl across two words
  w.words[kText + 4] = 0xbf00'f800;
  CHECK(is_return_address(w, kText + 7));
}

TEST_CASE("frames are followed in each compiler's layout") {
  Words w;
  const std::uint32_t a = w.call(kText);
  const std::uint32_t b = w.call(kText + 0x100);
  const std::uint32_t c = w.call(kText + 0x200);
  w.words[kStack] = kStack + 0x40;  // clang's
  w.words[kStack + 4] = a;
  w.words[kStack + 0x3c] = kStack + 0x80;  // GCC's
  w.words[kStack + 0x40] = b;
  w.words[kStack + 0x44] = 5;
  w.words[kStack + 0x80] = kText + 0x308;  // APCS
  w.words[kStack + 0x84] = 5;
  w.words[kStack + 0x7c] = c;
  w.words[kStack + 0x78] = kStack + 0x90;
  w.words[kStack + 0x74] = 0;
  CHECK(w.frames(kStack) == Addresses{a, b, c});
  CHECK(w.frames(kStack, 2) == Addresses{a, b});
}

TEST_CASE("a chain that goes round, down or far away ends") {
  Words w;
  const std::uint32_t a = w.call(kText);
  for (const std::uint32_t next : {kStack, kStack - 0x100, kStack + 0x10'0000, kStack + 2, 0U}) {
    w.words[kStack] = next;
    w.words[kStack + 4] = a;
    CHECK(w.frames(kStack) == Addresses{a});
  }
  CHECK(w.frames(0).empty());
  CHECK(w.frames(kStack + 1).empty());
}

TEST_CASE("a scan of the stack finds what points behind calls, up to its end") {
  Words w;
  const std::uint32_t a = w.call(kText);
  const std::uint32_t b = w.call(kText + 0x100);
  for (std::uint32_t i = 0; i < 16; ++i) w.words[kStack + 4 * i] = kText + 0x1000 + i;
  w.words[kStack + 8] = a;
  w.words[kStack + 60] = b;
  w.words[kStack + 68] = a;  // behind a word that is not there
  CHECK(w.scan(kStack) == Addresses{a, b});
  CHECK(w.scan(kStack + 12) == Addresses{b});
  CHECK(w.scan(kStack, 15) == Addresses{a});
  CHECK(w.scan(kStack, 64, 1) == Addresses{a});
}

TEST_CASE("frames and words can be looked at a few at a time") {
  Words w;
  const std::uint32_t a = w.call(kText);
  const std::uint32_t b = w.call(kText + 0x100);
  // Two records {caller's frame pointer, return address}.
  w.words[kStack] = kStack + 0x20;
  w.words[kStack + 4] = a;
  w.words[kStack + 0x20] = 0;
  w.words[kStack + 0x24] = b;
  Addresses found;
  const auto note = [&](std::uint32_t address) { found.push_back(address); };
  CHECK_EQ(follow_frames(w, kStack, 1, note), std::optional(kStack + 0x20));
  CHECK_FALSE(follow_frames(w, kStack + 0x20, 1, note).has_value());
  CHECK(found == Addresses{a, b});

  found.clear();
  CHECK(scan_stack(w, kStack, 2, 8, note));
  CHECK_FALSE(scan_stack(w, kStack + 4, 2, 8, note));     // the second is not there
  CHECK_FALSE(scan_stack(w, kStack + 0x20, 2, 0, note));  // enough is found
  CHECK(found == Addresses{a, a});
}

TEST_CASE("whatever is on the stack, looking at it ends") {
  std::mt19937_64 random(test_seed());
  for (unsigned round = 0; round < 2000; ++round) {
    Words w;
    for (std::uint32_t i = 0; i < 64; ++i) {
      w.words[kText + 4 * i] = static_cast<std::uint32_t>(random());
      const auto near = static_cast<std::uint32_t>(random() % 0x120);
      w.words[kStack + 4 * i] = random() % 2 == 0 ? kText + near : kStack + near;
    }
    CHECK(w.frames(kStack + static_cast<std::uint32_t>(random() % 0x100)).size() <= 8);
    CHECK(w.scan(kStack).size() <= 8);
  }
}

}  // namespace
}  // namespace cadastre
