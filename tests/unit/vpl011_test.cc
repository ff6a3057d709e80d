#include "hyp/devices/vpl011.hh"

#include <deque>
#include <random>
#include <string>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr std::uint32_t kData = 0x000;
constexpr std::uint32_t kReceiveStatus = 0x004;
constexpr std::uint32_t kFlags = 0x018;
constexpr std::uint32_t kLineControl = 0x02c;
constexpr std::uint32_t kControl = 0x030;
constexpr std::uint32_t kFifoLevel = 0x034;
constexpr std::uint32_t kMask = 0x038;
constexpr std::uint32_t kRawStatus = 0x03c;
constexpr std::uint32_t kMaskedStatus = 0x040;
constexpr std::uint32_t kClear = 0x044;

constexpr std::uint32_t kFifoEnable = 1U << 4;
constexpr std::uint32_t kLoopback = 1U << 7;
constexpr std::uint32_t kReceive = 1U << 4;
constexpr std::uint32_t kTransmit = 1U << 5;
constexpr std::uint32_t kTimeout = 1U << 6;
constexpr std::uint32_t kOverrun = 1U << 10;
constexpr std::uint32_t kReceiveEmpty = 1U << 4;
constexpr std::uint32_t kReceiveFull = 1U << 6;
constexpr std::uint32_t kTransmitEmpty = 1U << 7;

class Output final : public TextSink {
 public:
  void write(std::string_view text) override { text_ += text; }
  std::string text_;
};

class Line final : public InterruptLine {
 public:
  void set(bool level) override {
    CHECK(level != level_);
    level_ = level;
    ++changes_;
  }
  bool level_ = false;
  int changes_ = 0;
};

class Uart {
 public:
  std::uint32_t read(std::uint32_t offset) { return device_.read(offset, 4); }
  void write(std::uint32_t offset, std::uint32_t value) { device_.write(offset, 4, value); }
  void receive(std::string_view text) {
    for (const char c : text) CHECK(device_.receive(c));
  }
  std::string read_all() {
    std::string text;
    while ((read(kFlags) & kReceiveEmpty) == 0) text += static_cast<char>(read(kData));
    return text;
  }

  Output output_;
  Line line_;
  Vpl011 device_{output_, line_};
};

TEST_CASE("a UART after power-on is empty, off and silent") {
  Uart uart;
  CHECK((uart.read(kFlags) & (kReceiveEmpty | kReceiveFull | kTransmitEmpty)) == (kReceiveEmpty | kTransmitEmpty));
  CHECK((uart.read(kFlags) & 0x28) == 0);  // neither busy nor full
  CHECK(uart.read(kControl) == 0x300);
  CHECK(uart.read(kFifoLevel) == 0x12);
  CHECK(uart.read(kRawStatus) == 0);
  CHECK_FALSE(uart.device_.interrupt_level());
}

TEST_CASE("a UART identifies itself as a PL011 whose FIFOs are 16 deep") {
  Uart uart;
  std::uint64_t id = 0;
  for (unsigned i = 0; i < 8; ++i) id |= std::uint64_t{uart.read(0xfe0 + 4 * i)} << 8 * i;
  CHECK(id == 0xb105'f00d'0014'1011);
}

TEST_CASE("what is written to UARTDR goes out at once, whether the UART is enabled or not") {
  Uart uart;
  for (const char c : std::string_view("hi")) uart.write(kData, static_cast<std::uint32_t>(c));
  uart.device_.write(kData, 1, 0xffff'ff21);
  uart.write(kControl, 0x301);
  uart.device_.write(kData, 2, 0x0a0a);
  CHECK(uart.output_.text_ == "hi!\n");
  CHECK((uart.read(kFlags) & kTransmitEmpty) != 0);
}

TEST_CASE("registers keep their implemented bits, and what is reserved reads as zero") {
  Uart uart;
  const std::pair<std::uint32_t, std::uint32_t> registers[] = {{0x020, 0xff},  {0x024, 0xffff}, {0x028, 0x3f},
                                                               {0x02c, 0xff},  {0x030, 0xff87}, {0x034, 0x3f},
                                                               {0x038, 0x7ff}, {0x048, 7}};
  for (const auto& [offset, bits] : registers) {
    uart.write(offset, ~0U);
    CHECK(uart.read(offset) == bits);
    CHECK(uart.device_.read(offset, 1) == (bits & 0xff));
    uart.write(offset, 0);
  }
  for (const std::uint32_t offset : {0x008U, 0x01cU, 0x04cU, 0x080U, 0x031U, 0xfe1U, 0x1000U, 0xffff'ffe0U}) {
    uart.write(offset, ~0U);
    CHECK(uart.read(offset) == 0);
  }
}

TEST_CASE("the transmit interrupt comes with every character, and goes when it is cleared") {
  Uart uart;
  uart.write(kMask, kTransmit);
  CHECK_FALSE(uart.line_.level_);
  uart.write(kData, 'x');
  CHECK(uart.line_.level_);
  CHECK(uart.read(kMaskedStatus) == kTransmit);
  uart.write(kData, 'y');
  CHECK(uart.line_.level_);
  uart.write(kClear, kTransmit);
  CHECK_FALSE(uart.line_.level_);
  uart.write(kData, 'z');
  CHECK(uart.line_.level_);
  uart.write(kMask, 0);
  CHECK_FALSE(uart.line_.level_);
  CHECK(uart.read(kRawStatus) == kTransmit);
}

TEST_CASE("without FIFOs one character fills the receiver") {
  Uart uart;
  uart.write(kMask, kReceive);
  CHECK(uart.device_.can_receive());
  uart.receive("a");
  CHECK_FALSE(uart.device_.can_receive());
  CHECK_FALSE(uart.device_.receive('b'));
  CHECK(uart.line_.level_);
  CHECK((uart.read(kFlags) & kReceiveFull) != 0);
  CHECK(uart.read(kData) == 'a');
  CHECK(uart.read(kData) == 0);
  CHECK_FALSE(uart.line_.level_);
  CHECK(uart.device_.receive('b'));
  CHECK(uart.read_all() == "b");
  CHECK(uart.read(kReceiveStatus) == 0);
}

TEST_CASE("with FIFOs the receive interrupt follows the trigger level") {
  const unsigned triggers[] = {2, 4, 8, 12, 14};
  for (std::uint32_t select = 0; select < 5; ++select) {
    Uart uart;
    uart.write(kLineControl, kFifoEnable);
    uart.write(kFifoLevel, select << 3);
    uart.write(kMask, kReceive);
    for (unsigned i = 1; i <= 16; ++i) {
      CHECK_FALSE((uart.read(kFlags) & kReceiveFull) != 0);
      uart.receive("c");
      CHECK(uart.line_.level_ == (i >= triggers[select]));
    }
    CHECK((uart.read(kFlags) & kReceiveFull) != 0);
    CHECK_FALSE(uart.device_.receive('d'));
    for (unsigned i = 16; i-- > 0;) {
      CHECK(uart.read(kData) == 'c');
      CHECK(uart.line_.level_ == (i >= triggers[select]));
    }
  }
}

TEST_CASE("the receive timeout is asserted while there is anything to read") {
  Uart uart;
  uart.write(kLineControl, kFifoEnable);
  uart.write(kMask, kTimeout);
  uart.receive("ab");
  CHECK(uart.read(kMaskedStatus) == kTimeout);
  CHECK(uart.line_.level_);
  (void)uart.read(kData);
  CHECK(uart.line_.level_);
  // Cleared, it comes again: the rest has waited for another 32 bit times.
  uart.write(kClear, kTimeout);
  CHECK(uart.line_.level_);
  (void)uart.read(kData);
  CHECK_FALSE(uart.line_.level_);
}

TEST_CASE("a receive interrupt that was cleared comes again with the next character") {
  Uart uart;
  uart.write(kLineControl, kFifoEnable);
  uart.write(kFifoLevel, 0);
  uart.write(kMask, kReceive);
  uart.receive("abc");
  uart.write(kClear, kReceive);
  CHECK_FALSE(uart.line_.level_);
  uart.receive("d");
  CHECK(uart.line_.level_);
  CHECK(uart.read_all() == "abcd");
}

TEST_CASE("turning the FIFOs on or off empties them") {
  Uart uart;
  uart.write(kMask, kReceive | kTimeout);
  uart.receive("a");
  uart.write(kLineControl, kFifoEnable);
  CHECK(uart.read_all().empty());
  CHECK_FALSE(uart.line_.level_);
  uart.receive("bcd");
  uart.write(kLineControl, kFifoEnable | 0x60);
  CHECK(uart.read_all() == "bcd");
}

TEST_CASE("in loopback a UART hears itself only, loses what does not fit, and its modem lines are its own") {
  Uart uart;
  uart.write(kLineControl, kFifoEnable);
  uart.write(kMask, kOverrun);
  uart.write(kControl, 0x301 | kLoopback);
  CHECK_FALSE(uart.device_.can_receive());
  CHECK_FALSE(uart.device_.receive('x'));
  for (char c = 'a'; c < 'a' + 16; ++c) uart.write(kData, static_cast<std::uint32_t>(c));
  CHECK_FALSE(uart.line_.level_);
  uart.write(kData, 'q');
  CHECK(uart.line_.level_);
  CHECK(uart.read(kData) == 'a');
  CHECK(uart.read(kReceiveStatus) == 8);
  uart.write(kReceiveStatus, 0);
  uart.write(kClear, kOverrun);
  CHECK(uart.read(kReceiveStatus) == 0);
  CHECK_FALSE(uart.line_.level_);
  CHECK(uart.output_.text_.empty());
  CHECK(uart.read_all() == "bcdefghijklmnop");
  CHECK((uart.read(kFlags) & 0x107) == 0);
  uart.write(kControl, 0xfc01 | kLoopback);
  CHECK((uart.read(kFlags) & 0x107) == 0x107);
  uart.write(kControl, 0x301);
  CHECK((uart.read(kFlags) & 0x107) == 0x007);
}

TEST_CASE("Linux's way to start up and to send loses no character and leaves no interrupt asserted") {
  Uart uart;
  // Start-up: clear, drain, enable, unmask what is received.
  uart.write(kClear, 0x7ff);
  uart.write(kLineControl, 0x70);
  uart.write(kControl, 0xb01);
  uart.write(kMask, kReceive | kTimeout);
  // Sending: unmask, then fill half a FIFO at each interrupt until nothing is left.
  std::string text(100, 'x');
  text += '\n';
  std::size_t sent = 0;
  const auto fill = [&] {
    for (int i = 0; i < 8 && sent < text.size(); ++i) uart.write(kData, static_cast<std::uint32_t>(text[sent++]));
    if (sent == text.size()) uart.write(kMask, kReceive | kTimeout);
  };
  uart.write(kMask, kReceive | kTimeout | kTransmit);
  fill();
  for (int passes = 0; uart.line_.level_; ++passes) {
    REQUIRE(passes < 20);
    const std::uint32_t status = uart.read(kMaskedStatus);
    uart.write(kClear, status & ~(kTransmit | kReceive | kTimeout));
    if ((status & kTransmit) != 0) fill();
  }
  CHECK(uart.output_.text_ == text);
}

TEST_CASE("reset takes the interrupt and the received characters away") {
  Uart uart;
  uart.write(kMask, kTimeout | kTransmit);
  uart.write(kData, 'x');
  uart.receive("y");
  CHECK(uart.line_.level_);
  uart.device_.reset();
  CHECK_FALSE(uart.line_.level_);
  CHECK(uart.read(kRawStatus) == 0);
  CHECK(uart.read(kMask) == 0);
  CHECK(uart.read_all().empty());
}

TEST_CASE("under random operations a UART's FIFO is a queue, and its line is what its registers say") {
  std::mt19937_64 random(test_seed());
  Uart uart;
  std::deque<char> queue;
  std::string sent;
  for (int i = 0; i < 20000; ++i) {
    const auto value = static_cast<std::uint32_t>(random());
    const bool loopback = (uart.read(kControl) & kLoopback) != 0;
    const bool fifo = (uart.read(kLineControl) & kFifoEnable) != 0;
    const std::size_t depth = fifo ? 16 : 1;
    switch (random() % 8) {
      case 0:
      case 1: {
        const char c = static_cast<char>(value);
        const bool fits = queue.size() < depth && !loopback;
        REQUIRE(uart.device_.can_receive() == fits);
        REQUIRE(uart.device_.receive(c) == fits);
        if (fits) queue.push_back(c);
        break;
      }
      case 2:
        if (queue.empty()) break;
        REQUIRE(uart.read(kData) == static_cast<unsigned char>(queue.front()));
        queue.pop_front();
        break;
      case 3:
        uart.write(kData, value);
        if (!loopback) {
          sent += static_cast<char>(value);
        } else if (queue.size() < depth) {
          queue.push_back(static_cast<char>(value));
        }
        break;
      case 4:
        uart.write(kMask, value);
        break;
      case 5:
        uart.write(kClear, value);
        break;
      case 6:
        if (random() % 8 != 0) break;
        uart.write(kLineControl, value);
        if (((value & kFifoEnable) != 0) != fifo) queue.clear();
        break;
      default:
        uart.write(random() % 2 == 0 ? kFifoLevel : kControl, value);
        break;
    }
    const std::uint32_t flags = uart.read(kFlags);
    const std::size_t depth_now = (uart.read(kLineControl) & kFifoEnable) != 0 ? 16 : 1;
    REQUIRE(((flags & kReceiveEmpty) != 0) == queue.empty());
    REQUIRE(((flags & kReceiveFull) != 0) == (queue.size() == depth_now));
    REQUIRE(((uart.read(kRawStatus) & kTimeout) != 0) == !queue.empty());
    REQUIRE(uart.read(kMaskedStatus) == (uart.read(kRawStatus) & uart.read(kMask)));
    REQUIRE(uart.line_.level_ == (uart.read(kMaskedStatus) != 0));
    REQUIRE(uart.device_.interrupt_level() == uart.line_.level_);
  }
  CHECK(uart.output_.text_ == sent);
}

}  // namespace
}  // namespace cadastre
