// Blobs that are no device trees, and device trees that somebody damaged.
#include <cstring>
#include <random>

#include "tests/unit/dtb_test_support.hh"
#include "tests/unit/test.hh"

extern "C" {
#include <libfdt.h>
}

namespace cadastre {
namespace {

void set_word(Blob& blob, std::size_t offset, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) blob.bytes()[offset + i] = static_cast<std::byte>(value >> (24 - (8 * i)));
}

// The header's fields [DT 5.2].
constexpr std::size_t kMagic = 0;
constexpr std::size_t kTotalSize = 4;
constexpr std::size_t kStructOffset = 8;
constexpr std::size_t kVersion = 20;
constexpr std::size_t kLastCompatible = 24;

HostReading with_word(std::size_t offset, std::uint32_t value) {
  Blob blob = virt_dtb();
  set_word(blob, offset, value);
  return read_host_from(blob);
}

TEST_CASE("a header that is wrong says in which way") {
  CHECK(refuses(with_word(kMagic, 0x1234'5678).refusals, "bad magic 0x12345678"));
  CHECK(refuses(with_word(kTotalSize, 0x4000'0000).refusals, "its header says 1073741824 bytes"));
  CHECK(refuses(with_word(kTotalSize, 8).refusals, "its header says 8 bytes"));
  CHECK(refuses(with_word(kVersion, 3).refusals, "version 3"));
  CHECK(refuses(with_word(kLastCompatible, 18).refusals, "version 17", "18"));
  CHECK(refuses(with_word(kStructOffset, 58).refusals, "misaligned"));
  CHECK(refuses(with_word(kStructOffset, 0xffff'fff0).refusals, "broken or cut short"));
}

TEST_CASE("a tree cut off anywhere is refused") {
  const Blob whole = virt_dtb();
  for (std::size_t size = 0; size < whole.bytes().size(); size += 13) {
    const Blob cut(whole.bytes().first(size));
    CHECK_EQ(read_host_from(cut).refusals.count(), 1);
  }
}

TEST_CASE("a tree whose file was cut off and whose rest is zero is refused") {
  Blob blob = virt_dtb();
  const std::size_t half = blob.bytes().size() / 2;
  std::memset(blob.data() + half, 0, blob.bytes().size() - half);
  CHECK(refuses(read_host_from(blob).refusals, "broken or cut short"));
}

TEST_CASE("a property that is followed by itself is refused, and the search for a console ends there too") {
  Blob blob = virt_dtb();
  int length = 0;
  struct fdt_property* property = fdt_get_property_w(blob.data(), 0, "#address-cells", &length);
  REQUIRE(property != nullptr);
  property->len = cpu_to_fdt32(static_cast<std::uint32_t>(-12));
  CHECK(refuses(read_host_from(blob).refusals, "broken or cut short"));
  CHECK_FALSE(find_console(blob.bytes()).has_value());
}

TEST_CASE("bytes after the tree do not matter") {
  Blob blob = virt_dtb();
  blob.resize(blob.bytes().size() + 4096);
  CHECK(read_host_from(blob).is_accepted);
}

TEST_CASE("characters that do not print are not repeated to the terminal") {
  const auto blob =
      virt_dtb({.more = [](DtbBuilder& b) { b.begin("memory@\x1b[2J").text("device_type", "memory").end(); }});
  CHECK(refuses(read_host_from(blob).refusals, "/memory@?[2J: no reg"));
}

TEST_CASE("reasons beyond the collector's room are counted") {
  struct Lines : Log {
    void write_line(std::string_view line) override {
      last = line;
      ++count;
    }
    std::string last;
    unsigned count = 0;
  } lines;
  Refusals refusals;
  for (int i = 0; i < 20; ++i) refusals.add("reason {}", i);
  refusals.print(lines);
  CHECK_EQ(lines.count, 17);
  CHECK_EQ(lines.last, "refused: and 4 more reasons");
}

TEST_CASE("a reason is told once") {
  Refusals refusals;
  for (const int i : {1, 2, 1}) refusals.add("reason {}", i);
  CHECK_EQ(refusals.count(), 2);
}

TEST_CASE("a tree damaged at random is described or refused, and never read beyond its end") {
  std::mt19937_64 random(test_seed());
  const Blob whole = virt_dtb({.cpus = 4, .numa_nodes = 2});
  unsigned accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    Blob blob(whole.bytes());
    const std::size_t changes = 1 + (random() % 4);
    for (std::size_t i = 0; i < changes; ++i) {
      blob.bytes()[random() % blob.bytes().size()] = static_cast<std::byte>(random());
    }
    (void)find_console(blob.bytes());
    const auto reading = read_host_from(blob);
    REQUIRE_EQ(reading.is_accepted, reading.refusals.empty());
    if (!reading.is_accepted) continue;
    ++accepted;
    REQUIRE_FALSE(reading.host.memory.empty());
    for (const MemoryRegion& region : reading.host.memory) REQUIRE(region.end() > region.base);
  }
  CHECK_GT(accepted, 0);
}

}  // namespace
}  // namespace cadastre
