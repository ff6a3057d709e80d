// Which UART is the console, and where its interrupt goes.
#include "tests/unit/dtb_test_support.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

constexpr std::uint32_t kGic = 0x8005;  // QEMU's phandle of it

// A bus whose first GiB is at 4 GiB, with `devices` on it.
std::function<void(DtbBuilder&)> bus_with(const std::function<void(DtbBuilder&)>& devices) {
  return [devices](DtbBuilder& b) {
    b.begin("soc").cells("#address-cells", {1}).cells("#size-cells", {1}).cells("ranges", {0, 1, 0, 0x4000'0000});
    devices(b);
    b.end();
  };
}

void designware(DtbBuilder& b, const char* name, std::uint32_t base) {
  b.begin(name).text("compatible", "snps,dw-apb-uart").cells("reg", {base, 0x400});
  b.cells("reg-shift", {2}).cells("reg-io-width", {4}).cells("interrupts", {0, 7, 4}).end();
}

HostReading without_stdout(const std::function<void(DtbBuilder&)>& more,
                           const std::function<void(void*)>& change = {}) {
  return read_host_from(virt_dtb({.more = more}, [&](void* b) {
    remove_property(b, "/chosen", "stdout-path");
    if (change) change(b);
  }));
}

bool drives(const HostUart& uart, std::string_view compatible) {
  return uart.driver != nullptr &&
         std::ranges::find(uart.driver->compatibles, compatible) != uart.driver->compatibles.end();
}

TEST_CASE("a 16550 that stdout-path names is the console, with its registers as its node says") {
  const auto more = [](DtbBuilder& b) {
    bus_with([](DtbBuilder& d) { designware(d, "serial@28400", 0x2'8400); })(b);
    b.begin("aliases").text("serial3", "/soc/serial@28400").end();
  };
  const auto blob =
      virt_dtb({.more = more}, [](void* b) { set_text(b, "/chosen", "stdout-path", "serial3:115200n8"); });
  const auto reading = read_host_from(blob);
  REQUIRE(reading.is_accepted);
  const HostUart& uart = reading.host.uart;
  CHECK(drives(uart, "snps,dw-apb-uart"));
  CHECK(uart.base == PhysAddr(0x1'0002'8400));  // not at a page's start, as on many a board
  CHECK(uart.layout == UartLayout{.shift = 2, .width = 4});
  CHECK_EQ(uart.interrupt, 39);
  CHECK_EQ(uart.path.view(), "/soc/serial@28400");
}

TEST_CASE("without stdout-path serial0 is the console, and without that the first UART that is enabled") {
  const auto uarts = bus_with([](DtbBuilder& b) {
    b.begin("serial@1000")
        .text("compatible", "ns16550a")
        .cells("reg", {0x1000, 0x100})
        .text("status", "disabled")
        .end();
    designware(b, "serial@2000", 0x2000);
  });
  const auto aliased = [&](DtbBuilder& b) {
    uarts(b);
    b.begin("aliases").text("serial0", "/soc/serial@2000").end();
  };
  CHECK(without_stdout(aliased).host.uart.base == PhysAddr(0x1'0000'2000));
  CHECK(without_stdout(uarts).host.uart.base == PhysAddr(0x900'0000));
  CHECK(without_stdout(uarts, [](void* b) { remove_node(b, "/pl011@9000000"); }).host.uart.base ==
        PhysAddr(0x1'0000'2000));
  const auto none = without_stdout([](DtbBuilder&) {}, [](void* b) { remove_node(b, "/pl011@9000000"); });
  CHECK(none.is_accepted);
  CHECK_EQ(none.host.uart.driver, nullptr);
}

TEST_CASE("a UART that is disabled, of an unknown kind, or out of reach is no console, and the machine runs without") {
  const auto has_console = [](const std::function<void(DtbBuilder&)>& device) {
    const auto reading = read_host_from(virt_dtb({.more = bus_with(device)}, [](void* b) {
      set_text(b, "/chosen", "stdout-path", "/soc/uart@1000");
      remove_node(b, "/pl011@9000000");
    }));
    CHECK(reading.is_accepted);
    return reading.host.uart.driver != nullptr;
  };
  const auto uart = [](DtbBuilder& b, const char* kind, std::uint32_t base) -> DtbBuilder& {
    return b.begin("uart@1000").text("compatible", kind).cells("reg", {base, 0x100});
  };
  CHECK(has_console([&](DtbBuilder& b) { uart(b, "ns16550a", 0x1000).end(); }));
  CHECK_FALSE(has_console([&](DtbBuilder& b) { uart(b, "acme,uart", 0x1000).end(); }));
  CHECK_FALSE(has_console([&](DtbBuilder& b) { uart(b, "ns16550a", 0x1000).text("status", "disabled").end(); }));
  CHECK_FALSE(has_console([&](DtbBuilder& b) { uart(b, "ns16550a", 0x1ffc).end(); }));
  CHECK_FALSE(has_console([&](DtbBuilder& b) { uart(b, "ns16550a", 0x1000).cells("reg-io-width", {8}).end(); }));
  CHECK_FALSE(has_console([&](DtbBuilder& b) { uart(b, "ns16550a", 0x4000'0000).end(); }));
}

// The PL011 of virt with another description of its interrupt.
std::uint32_t interrupt_with(const std::function<void(void*)>& change,
                             const std::function<void(DtbBuilder&)>& more = {}) {
  const auto reading = read_host_from(virt_dtb({.more = more}, change));
  REQUIRE(reading.is_accepted);
  return reading.host.uart.interrupt;
}

TEST_CASE("interrupts-extended says who is told, and counts before interrupts") {
  const char* const uart = "/pl011@9000000";
  CHECK_EQ(interrupt_with([&](void* b) { set_cells(b, uart, "interrupts-extended", {kGic, 0, 9, 4}); }), 41);
  CHECK_EQ(interrupt_with([&](void* b) { set_cells(b, uart, "interrupts-extended", {kGic, 0, 9}); }), 0);
  CHECK_EQ(interrupt_with([&](void* b) { set_cells(b, uart, "interrupts-extended", {0x77, 0, 9, 4}); }), 0);
}

TEST_CASE("an interrupt goes through the maps of the buses") {
  const char* const uart = "/soc/serial@2000";
  const auto board = [](DtbBuilder& b) {
    b.begin("soc").cells("#address-cells", {1}).cells("#size-cells", {1}).cells("ranges", {0, 1, 0, 0x4000'0000});
    b.cells("#interrupt-cells", {1}).cells("interrupt-map-mask", {0, 0x3f});
    b.cells("interrupt-map", {0, 4, kGic, 0, 0, 0, 11, 4, 0, 5, kGic, 0, 0, 0, 12, 4});
    b.begin("serial@2000")
        .text("compatible", "arm,pl011")
        .cells("reg", {0x2000, 0x1000})
        .cells("interrupts", {5})
        .end()
        .end();
  };
  const auto with = [&](const std::function<void(void*)>& change) {
    return interrupt_with(
        [&](void* b) {
          set_text(b, "/chosen", "stdout-path", uart);
          change(b);
        },
        board);
  };
  CHECK_EQ(with([](void*) {}), 44);
  CHECK_EQ(with([&](void* b) { set_cells(b, uart, "interrupts", {4}); }), 43);
  CHECK_EQ(with([&](void* b) { set_cells(b, uart, "interrupts", {6}); }), 0);
  // The address on the bus counts when the mask says so.
  CHECK_EQ(with([](void* b) { set_cells(b, "/soc", "interrupt-map-mask", {0xf000, 0x3f}); }), 0);
  CHECK_EQ(with([](void* b) {
             set_cells(b, "/soc", "interrupt-map-mask", {0xf000, 0x3f});
             set_cells(b, "/soc", "interrupt-map", {0x2000, 5, kGic, 0, 0, 0, 12, 4});
           }),
           44);
  // Cut short, and to nobody.
  CHECK_EQ(with([](void* b) { set_cells(b, "/soc", "interrupt-map", {0, 5, kGic, 0, 0, 0, 12}); }), 0);
  CHECK_EQ(with([](void* b) { set_cells(b, "/soc", "interrupt-map", {0, 5, 0x77, 0, 12, 4}); }), 0);
}

TEST_CASE("controllers that lead to each other in a circle lead nowhere") {
  const auto circle = [](DtbBuilder& b) {
    for (const std::uint32_t i : {1U, 2U}) {
      b.begin("nexus@" + std::to_string(i))
          .cells("phandle", {i})
          .cells("#interrupt-cells", {1})
          .cells("#address-cells", {0});
      b.cells("interrupt-map-mask", {0}).cells("interrupt-map", {0, 3 - i, 0}).end();
    }
    for (const std::uint32_t i : {3U, 4U}) {
      b.begin("parent@" + std::to_string(i)).cells("phandle", {i}).cells("interrupt-parent", {7 - i}).end();
    }
  };
  CHECK_EQ(interrupt_with([](void* b) { set_cells(b, "/pl011@9000000", "interrupt-parent", {1}); }, circle), 0);
  CHECK_EQ(interrupt_with([](void* b) { set_cells(b, "/pl011@9000000", "interrupt-parent", {3}); }, circle), 0);
}

}  // namespace
}  // namespace cadastre
