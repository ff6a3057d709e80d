// The small parts: the emulated timer, the device windows, the console of lines.
#include <string>
#include <vector>

#include "hyp/devices/guest_console.hh"
#include "hyp/devices/mmio.hh"
#include "hyp/devices/vtimer.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

TEST_CASE("a timer's condition holds from its compare value on, and only when it is enabled") {
  EmulatedTimer timer;
  CHECK(timer.control(100) == 0);
  timer.set_compare(100);
  timer.set_control(EmulatedTimer::kEnable);
  CHECK(timer.control(99) == EmulatedTimer::kEnable);
  CHECK(timer.control(100) == (EmulatedTimer::kEnable | EmulatedTimer::kStatus));
  CHECK_FALSE(timer.level(99));
  CHECK(timer.level(100));
  // Unsigned: the far end of the range is not the past.
  timer.set_compare(~std::uint64_t{0});
  CHECK_FALSE(timer.level(100));
  CHECK(timer.level(~std::uint64_t{0}));
}

TEST_CASE("a masked timer keeps its status and has no level") {
  EmulatedTimer timer;
  timer.set_control(~0U);
  CHECK(timer.control(1) == 7);
  CHECK_FALSE(timer.level(1));
  timer.set_control(EmulatedTimer::kEnable);
  CHECK(timer.level(1));
}

TEST_CASE("TVAL is the distance to the compare value, signed and 32 bits wide") {
  EmulatedTimer timer;
  const std::uint64_t now = 0x1'0000'0010;
  timer.set_value(now, 0x20);
  CHECK(timer.compare() == now + 0x20);
  CHECK(timer.value(now + 0x30) == 0xffff'fff0);
  timer.set_value(now, 0xffff'ffff);
  CHECK(timer.compare() == now - 1);
  timer.set_control(EmulatedTimer::kEnable);
  CHECK(timer.level(now));
  timer.set_compare(now + 0x7'0000'0005);
  CHECK(timer.value(now) == 5);
}

TEST_CASE("a timer's next event is its compare value, while that lies ahead and is heard") {
  EmulatedTimer timer;
  timer.set_compare(50);
  CHECK_FALSE(timer.next_event(0));
  timer.set_control(EmulatedTimer::kEnable | EmulatedTimer::kMask);
  CHECK_FALSE(timer.next_event(0));
  timer.set_control(EmulatedTimer::kEnable);
  CHECK(timer.next_event(0) == 50);
  CHECK(timer.next_event(49) == 50);
  CHECK_FALSE(timer.next_event(50));
}

class Recorder final : public MmioDevice {
 public:
  std::uint32_t read(unsigned, std::uint32_t, unsigned) override { return 0; }
  void write(unsigned, std::uint32_t, unsigned, std::uint32_t) override {}
};

TEST_CASE("an access goes to the window that holds all of it") {
  Recorder low;
  Recorder high;
  MmioMap map;
  REQUIRE(map.add(IpaAddr(0x0800'0000), 0x1000, low));
  REQUIRE(map.add(IpaAddr(0xff'ffff'f000), 0x1000, high));
  CHECK(map.find(IpaAddr(0x0800'0000), 4).device == &low);
  const MmioTarget last = map.find(IpaAddr(0x0800'0ffc), 4);
  CHECK(last.device == &low);
  CHECK(last.offset == 0xffc);
  CHECK_FALSE(map.find(IpaAddr(0x0800'0ffe), 4));
  CHECK(map.find(IpaAddr(0x0800'0ffe), 2));
  CHECK_FALSE(map.find(IpaAddr(0x0800'1000), 1));
  CHECK_FALSE(map.find(IpaAddr(0x07ff'ffff), 1));
  CHECK_FALSE(map.find(IpaAddr(0x07ff'fffe), 4));
  CHECK(map.find(IpaAddr(0xff'ffff'fffc), 4).device == &high);
}

TEST_CASE("windows that overlap, wrap, are empty or too many are refused") {
  Recorder device;
  MmioMap map;
  REQUIRE(map.add(IpaAddr(0x2000), 0x1000, device));
  CHECK(map.add(IpaAddr(0x2fff), 1, device).error() == Error::kOverlap);
  CHECK(map.add(IpaAddr(0x1fff), 2, device).error() == Error::kOverlap);
  CHECK(map.add(IpaAddr(0x1000), 0x3000, device).error() == Error::kOverlap);
  CHECK(map.add(IpaAddr(0x5000), 0, device).error() == Error::kInvalid);
  CHECK(map.add(IpaAddr(~std::uint64_t{0}), 2, device).error() == Error::kInvalid);
  CHECK(map.add(IpaAddr(0), (std::uint64_t{1} << 32) + 1, device).error() == Error::kInvalid);
  REQUIRE(map.add(IpaAddr(0x1000), 0x1000, device));
  REQUIRE(map.add(IpaAddr(0x3000), 0x1000, device));
  for (unsigned i = 3; i < MmioMap::kMaxWindows; ++i) REQUIRE(map.add(IpaAddr(0x1000 * (i + 1)), 0x1000, device));
  CHECK(map.add(IpaAddr(0x10'0000), 0x1000, device).error() == Error::kLimit);
}

class Pieces final : public TextSink {
 public:
  void write(std::string_view text) override { pieces_.emplace_back(text); }
  std::vector<std::string> pieces_;
};

TEST_CASE("a guest's lines come out whole, each with its name") {
  Pieces out;
  LineConsole console("linux0", out);
  for (const char c : std::string_view("one\r\ntw")) console.write({&c, 1});
  CHECK(out.pieces_ == std::vector<std::string>{"[linux0] one\n"});
  console.write("o\n\n");
  CHECK(out.pieces_.size() == 3);
  CHECK(out.pieces_[1] == "[linux0] two\n");
  CHECK(out.pieces_[2] == "[linux0] \n");
  console.finish();
  CHECK(out.pieces_.size() == 3);
  console.write("# ");
  console.finish();
  console.finish();
  CHECK(out.pieces_.size() == 4);
  CHECK(out.pieces_[3] == "[linux0] # \n");
}

TEST_CASE("a line longer than the buffer comes out in pieces that lose nothing") {
  Pieces out;
  LineConsole console("g", out);
  const std::string text(1000, 'x');
  console.write(text);
  console.write("\n");
  std::string joined;
  for (const std::string& piece : out.pieces_) {
    CHECK(piece.size() <= 256);
    CHECK(piece.starts_with("[g] "));
    CHECK(piece.ends_with('\n'));
    joined += piece.substr(4, piece.size() - 5);
  }
  CHECK(joined == text);
  CHECK(out.pieces_.size() == 4);
}

TEST_CASE("a name that is too long is cut") {
  Pieces out;
  LineConsole console(std::string(300, 'n'), out);
  console.write("x\n");
  CHECK(out.pieces_[0] == "[" + std::string(32, 'n') + "] x\n");
}

}  // namespace
}  // namespace cadastre
