#include "hyp/config/guest_dtb.hh"

#include "hyp/config/layout.hh"
#include "hyp/devices/vcpu_limit.hh"
#include "tests/unit/dtb_test_support.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

struct Written {
  Blob blob{kGuestDtbRoom};
  Refusals refusals;
  std::optional<DeviceTree> tree;
};

Written write(const GuestDtb& guest) {
  Written written;
  const auto size = write_guest_dtb(written.blob.bytes(), guest);
  REQUIRE(size.has_value());
  written.blob.resize(size.value_or(0));
  written.tree = DeviceTree::open(written.blob.bytes(), written.refusals);
  REQUIRE(written.tree.has_value());
  return written;
}

// The property's value as text with each zero as '|', or as cells in hexadecimal; "-" when it is missing.
std::string text(const Written& written, const char* path, const char* property) {
  const auto node = written.tree ? written.tree->find(path) : std::nullopt;
  const auto value = node ? node->property(property) : std::nullopt;
  if (!value) return "-";
  std::string all;
  for (std::size_t i = 0; i < value->cells(); ++i) {
    std::array<char, 12> cell{};
    if (i != 0) all += ' ';
    all += format_to(cell, "{:x}", value->cell(i));
  }
  return all;
}

std::string words(const Written& written, const char* path, const char* property) {
  const auto node = written.tree ? written.tree->find(path) : std::nullopt;
  const auto value = node ? node->property(property) : std::nullopt;
  return value ? std::string(value->string().value_or("?")) : "-";
}

GuestDtb linux_guest() {
  return {.memory = 0x1'0000'0000,
          .cpus = 2,
          .cpu_compatible = "arm,cortex-a7",
          .bootargs = "console=ttyAMA0",
          .initrd = {.base = IpaAddr(0x4280'0000), .size = 0x1234}};
}

TEST_CASE("the guest's tree reads back as a virt machine, through the host's own reader") {
  const Written written = write(linux_guest());
  HostDescription host;
  Refusals refusals;
  // Its GIC has no virtualization.
  CHECK_FALSE((written.tree && read_host(*written.tree, host, refusals)));
  CHECK_EQ(refusals.count(), 1);
  REQUIRE_EQ(host.memory.size(), 1);
  CHECK(host.memory[0].base == PhysAddr(0x4000'0000));
  CHECK_EQ(host.memory[0].size, 0x1'0000'0000);
  REQUIRE_EQ(host.cpus.size(), 2);
  CHECK_EQ(host.cpus[1].mpidr, 1);
  CHECK(host.uart.base == PhysAddr(0x900'0000));
  CHECK_EQ(host.uart.interrupt, 33);
  CHECK_EQ(host.timer.secure_physical, 29);
  CHECK_EQ(host.timer.physical, 30);
  CHECK_EQ(host.timer.virtual_timer, 27);
  CHECK_EQ(host.timer.hypervisor, 26);
  CHECK_EQ(host.psci.conduit, PsciConduit::kHvc);
  const PhysRange initrd = host.initrd.value_or(PhysRange());
  CHECK(initrd.base == PhysAddr(0x4280'0000));
  CHECK_EQ(initrd.size, 0x1234);
}

TEST_CASE("details that a guest's drivers look at are there") {
  const Written written = write(linux_guest());
  for (const std::string_view name : {"cadastre,guest", "linux,dummy-virt"}) {
    CHECK((written.tree && written.tree->root().is_compatible(name)));
  }
  CHECK_EQ(words(written, "/cpus/cpu@1", "compatible"), "arm,cortex-a7");
  CHECK_EQ(words(written, "/psci", "method"), "hvc");
  CHECK_EQ(text(written, "/intc@8000000", "reg"), "0x0 0x8000000 0x0 0x1000 0x0 0x8010000 0x0 0x2000");
  CHECK_EQ(text(written, "/timer", "interrupts"), "0x1 0xd 0x304 0x1 0xe 0x304 0x1 0xb 0x304 0x1 0xa 0x304");
  CHECK_EQ(text(written, "/timer", "always-on"), "");
  CHECK_EQ(text(written, "/pl011@9000000", "interrupts"), "0x0 0x1 0x4");
  CHECK_EQ(text(written, "/pl011@9000000", "clocks"), text(written, "/apb-pclk", "phandle") + " 0x2");
  CHECK_EQ(text(written, "/apb-pclk", "clock-frequency"), "0x16e3600");
  CHECK_EQ(words(written, "/chosen", "stdout-path"), "/pl011@9000000");
  CHECK_EQ(text(written, "/", "interrupt-parent"), text(written, "/intc@8000000", "phandle"));
}

TEST_CASE("the timer's frequency is written where the CPU does not say it") {
  CHECK_EQ(text(write(linux_guest()), "/timer", "clock-frequency"), "-");
  GuestDtb guest = linux_guest();
  guest.timer_frequency = 24'000'000;
  CHECK_EQ(text(write(guest), "/timer", "clock-frequency"), "0x16e3600");
}

TEST_CASE("a guest without command line and initrd has none of their properties") {
  const Written written = write({.memory = 1 << 20, .cpus = 1, .cpu_compatible = "arm,cortex-a15"});
  CHECK_EQ(text(written, "/chosen", "bootargs"), "-");
  CHECK_EQ(text(written, "/chosen", "linux,initrd-start"), "-");
}

TEST_CASE("the largest guest's tree fits into the room that its layout keeps") {
  GuestDtb guest = linux_guest();
  const std::string bootargs(decltype(GuestPlan::bootargs)::capacity(), 'x');
  guest.cpus = kMaxVcpus;
  guest.bootargs = bootargs;
  CHECK_EQ(words(write(guest), "/chosen", "bootargs"), bootargs);
}

TEST_CASE("a tree that does not fit is refused, whatever the room") {
  const std::size_t size = write_guest_dtb(Blob(kGuestDtbRoom).bytes(), linux_guest()).value_or(0);
  REQUIRE_GT(size, 0);
  for (std::size_t room = 0; room < size; room += 8) {
    CHECK(write_guest_dtb(Blob(room).bytes(), linux_guest()) == std::unexpected(Error::kLimit));
  }
  GuestDtb guest = linux_guest();
  guest.bootargs = std::string_view("a\0b", 3);
  CHECK(write_guest_dtb(Blob(kGuestDtbRoom).bytes(), guest) == std::unexpected(Error::kInvalid));
}

}  // namespace
}  // namespace cadastre
