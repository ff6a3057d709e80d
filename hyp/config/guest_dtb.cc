#include "hyp/config/guest_dtb.hh"

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>

#include "hyp/guest/guest_map.hh"

extern "C" {
#include <libfdt.h>
}

namespace cadastre {
namespace {

constexpr std::uint32_t kGicPhandle = 1;
constexpr std::uint32_t kClockPhandle = 2;
constexpr std::uint32_t kClockHz = 24'000'000;
constexpr std::uint64_t kDevicePage = 0x1000;
constexpr const char* kConsole = "/pl011@9000000";

// [GIC binding] kind, number and flags of an interrupt. PPIs have the CPUs' mask in the flags, too.
constexpr std::uint32_t kSpi = 0;
constexpr std::uint32_t kPpi = 1;
constexpr std::uint32_t kFirstPpi = 16;
constexpr std::uint32_t kFirstSpi = 32;
constexpr std::uint32_t kLevelHigh = 4;
constexpr unsigned kCpuMaskShift = 8;

// libfdt's sequential write with the first error kept, so that a tree reads like a tree.
class Writer {
 public:
  // Finding each name in the strings block again takes longer than it saves bytes.
  explicit Writer(std::span<std::byte> room) : blob_(room.data()) {
    const auto size = static_cast<int>(room.size());
    step([&] { return fdt_create_with_flags(blob_, size, FDT_CREATE_FLAG_NO_NAME_DEDUP); });
    step([&] { return fdt_finish_reservemap(blob_); });
  }

  Writer& begin(const char* name) {
    return step([&] { return fdt_begin_node(blob_, name); });
  }
  // "NAME@UNIT", the unit in hexadecimal.
  Writer& begin(std::string_view name, std::uint64_t unit);
  Writer& end() {
    return step([&] { return fdt_end_node(blob_); });
  }
  Writer& flag(const char* name) {
    return step([&] { return fdt_property(blob_, name, nullptr, 0); });
  }
  Writer& cells(const char* name, std::initializer_list<std::uint32_t> values);
  // Address and size, or any pair, in two cells each.
  Writer& pairs(const char* name, std::initializer_list<std::uint64_t> values);
  Writer& texts(const char* name, std::initializer_list<std::string_view> values);

  [[nodiscard]] Result<std::size_t> finish();

 private:
  // After an error nothing is called any more: the blob may not even have a header.
  template <class Call>
  Writer& step(Call call) {
    if (error_ == 0) error_ = call();
    return *this;
  }
  // A property of `size` bytes to be filled; null after an error.
  std::byte* add(const char* name, std::size_t size) {
    void* value = nullptr;
    step([&] { return fdt_property_placeholder(blob_, name, static_cast<int>(size), &value); });
    return error_ == 0 ? static_cast<std::byte*>(value) : nullptr;
  }

  void* blob_;
  int error_ = 0;
};

std::byte* put(std::byte* to, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) *to++ = static_cast<std::byte>(value >> shift);
  return to;
}

Writer& Writer::begin(std::string_view name, std::uint64_t unit) {
  std::array<char, 40> text{};
  char* at = std::ranges::copy(name, text.begin()).out;
  *at++ = '@';
  *std::to_chars(at, text.end(), unit, 16).ptr = '\0';
  return begin(text.data());
}

Writer& Writer::cells(const char* name, std::initializer_list<std::uint32_t> values) {
  std::byte* to = add(name, values.size() * sizeof(std::uint32_t));
  if (to == nullptr) return *this;
  for (const std::uint32_t value : values) to = put(to, value);
  return *this;
}

Writer& Writer::pairs(const char* name, std::initializer_list<std::uint64_t> values) {
  std::byte* to = add(name, values.size() * sizeof(std::uint64_t));
  if (to == nullptr) return *this;
  for (const std::uint64_t value : values) {
    to = put(put(to, static_cast<std::uint32_t>(value >> 32)), static_cast<std::uint32_t>(value));
  }
  return *this;
}

Writer& Writer::texts(const char* name, std::initializer_list<std::string_view> values) {
  std::size_t size = 0;
  for (const std::string_view value : values) size += value.size() + 1;
  std::byte* to = add(name, size);
  if (to == nullptr) return *this;
  for (const std::string_view value : values) {
    to = std::ranges::copy(std::as_bytes(std::span(value)), to).out;
    *to++ = std::byte{0};
  }
  return *this;
}

Result<std::size_t> Writer::finish() {
  step([&] { return fdt_finish(blob_); });
  if (error_ != 0) return std::unexpected(Error::kLimit);
  return fdt_totalsize(blob_);
}

void add_cpus(Writer& writer, const GuestDtb& guest) {
  writer.begin("cpus").cells("#address-cells", {1}).cells("#size-cells", {0});
  for (std::uint32_t i = 0; i < guest.cpus; ++i) {
    writer.begin("cpu", i).texts("device_type", {"cpu"}).texts("compatible", {guest.cpu_compatible});
    writer.cells("reg", {i}).texts("enable-method", {"psci"}).end();
  }
  writer.end();
  writer.begin("psci").texts("compatible", {"arm,psci-1.0", "arm,psci-0.2"}).texts("method", {"hvc"}).end();
}

void add_gic(Writer& writer) {
  writer.begin("intc", guest_map::kGicDistributor.value()).texts("compatible", {"arm,cortex-a15-gic"});
  writer.pairs("reg", {guest_map::kGicDistributor.value(), kDevicePage, guest_map::kGicCpuInterface.value(),
                       guest_map::kGicCpuInterfaceSize});
  writer.cells("#interrupt-cells", {3}).cells("#address-cells", {0}).flag("interrupt-controller");
  writer.cells("phandle", {kGicPhandle}).end();
}

// The order is fixed: secure physical, physical, virtual, hypervisor. A guest has the second and the third; the others
// are named because every system with this binding names them.
void add_timer(Writer& writer, const GuestDtb& guest) {
  const std::uint32_t flags = ((1U << guest.cpus) - 1) << kCpuMaskShift | kLevelHigh;
  writer.begin("timer").texts("compatible", {"arm,armv7-timer"}).flag("always-on");
  writer.cells("interrupts", {kPpi, 29 - kFirstPpi, flags,                                  //
                              kPpi, guest_map::kPhysicalTimerInterrupt - kFirstPpi, flags,  //
                              kPpi, guest_map::kVirtualTimerInterrupt - kFirstPpi, flags,   //
                              kPpi, 26 - kFirstPpi, flags});
  if (guest.timer_frequency != 0) writer.cells("clock-frequency", {guest.timer_frequency});
  writer.end();
}

void add_uart(Writer& writer) {
  writer.begin("apb-pclk").texts("compatible", {"fixed-clock"}).cells("#clock-cells", {0});
  writer.cells("clock-frequency", {kClockHz}).texts("clock-output-names", {"clk24mhz"});
  writer.cells("phandle", {kClockPhandle}).end();

  writer.begin("pl011", guest_map::kUart.value()).texts("compatible", {"arm,pl011", "arm,primecell"});
  writer.pairs("reg", {guest_map::kUart.value(), kDevicePage});
  writer.cells("interrupts", {kSpi, guest_map::kUartInterrupt - kFirstSpi, kLevelHigh});
  writer.texts("clock-names", {"uartclk", "apb_pclk"}).cells("clocks", {kClockPhandle, kClockPhandle}).end();
}

void add_chosen(Writer& writer, const GuestDtb& guest) {
  writer.begin("chosen").texts("stdout-path", {kConsole});
  if (!guest.bootargs.empty()) writer.texts("bootargs", {guest.bootargs});
  if (guest.initrd.size != 0) {
    writer.pairs("linux,initrd-start", {guest.initrd.base.value()});
    writer.pairs("linux,initrd-end", {guest.initrd.end().value()});
  }
  writer.end();
}

}  // namespace

Result<std::size_t> write_guest_dtb(std::span<std::byte> room, const GuestDtb& guest) {
  if (guest.bootargs.contains('\0') || guest.cpu_compatible.contains('\0')) return std::unexpected(Error::kInvalid);
  Writer writer(room);
  writer.begin("").cells("#address-cells", {2}).cells("#size-cells", {2}).cells("interrupt-parent", {kGicPhandle});
  writer.texts("compatible", {"cadastre,guest", "linux,dummy-virt"}).texts("model", {"cadastre,guest"});
  writer.begin("memory", guest_map::kRam.value()).texts("device_type", {"memory"});
  writer.pairs("reg", {guest_map::kRam.value(), guest.memory}).end();
  add_cpus(writer, guest);
  add_gic(writer);
  add_timer(writer, guest);
  add_uart(writer);
  add_chosen(writer, guest);
  return writer.end().finish();
}

}  // namespace cadastre
