#include "tests/unit/dtb_builder.hh"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

extern "C" {
#include <libfdt.h>
}

namespace cadastre {
namespace {

constexpr std::size_t kRoom = std::size_t{64} << 10;
constexpr std::uint32_t kGicPhandle = 0x8005;
constexpr std::uint32_t kClockPhandle = 0x8000;

void expect(int result) {
  if (result >= 0) return;
  std::fputs(fdt_strerror(result), stderr);
  std::abort();
}

std::vector<std::byte> big_endian(std::initializer_list<std::uint32_t> values) {
  std::vector<std::byte> bytes;
  for (const std::uint32_t value : values) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<std::byte>(value >> shift));
  }
  return bytes;
}

std::uint32_t high(std::uint64_t value) {
  return static_cast<std::uint32_t>(value >> 32);
}
std::uint32_t low(std::uint64_t value) {
  return static_cast<std::uint32_t>(value);
}

std::string unit(const char* name, std::uint64_t address) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%s@%llx", name, static_cast<unsigned long long>(address));
  return text.data();
}

int offset_of(void* blob, const char* path) {
  const int offset = fdt_path_offset(blob, path);
  expect(offset);
  return offset;
}

void add_memory(DtbBuilder& builder, const VirtMachine& machine) {
  const std::uint64_t share = machine.memory / machine.numa_nodes;
  for (unsigned i = machine.numa_nodes; i-- > 0;) {  // the last first, as QEMU does
    const std::uint64_t base = 0x4000'0000 + (i * share);
    builder.begin(unit("memory", base));
    if (machine.numa_nodes > 1) builder.cells("numa-node-id", {i});
    builder.reg(base, share).text("device_type", "memory").end();
  }
  if (machine.numa_nodes < 2) return;
  builder.begin("distance-map").text("compatible", "numa-distance-map-v1");
  builder.cells("distance-matrix", {0, 0, 10, 0, 1, 20, 1, 0, 20, 1, 1, 10}).end();
}

void add_cpus(DtbBuilder& builder, const VirtMachine& machine) {
  builder.begin("cpus").cells("#size-cells", {0}).cells("#address-cells", {1});
  builder.begin("cpu-map").begin("socket0").end().end();
  for (unsigned i = 0; i < machine.cpus; ++i) {
    builder.begin(unit("cpu", i)).cells("reg", {i}).text("enable-method", "psci");
    if (machine.numa_nodes > 1) builder.cells("numa-node-id", {i * machine.numa_nodes / machine.cpus});
    builder.text("compatible", "arm,cortex-a15").text("device_type", "cpu").end();
  }
  builder.end();
}

void add_devices(DtbBuilder& builder) {
  builder.begin("psci").text("method", "smc").texts("compatible", {"arm,psci-1.0", "arm,psci-0.2", "arm,psci"}).end();
  builder.begin("pcie@10000000").cells("#address-cells", {3}).cells("#size-cells", {2});
  builder.cells("ranges", {0x200'0000, 0, 0x1000'0000, 0, 0x1000'0000, 0, 0x2eff'0000}).end();
  builder.begin("pl011@9000000").texts("clock-names", {"uartclk", "apb_pclk"});
  builder.cells("clocks", {kClockPhandle, kClockPhandle}).cells("interrupts", {0, 1, 4});
  builder.reg(0x900'0000, 0x1000).texts("compatible", {"arm,pl011", "arm,primecell"}).end();
  builder.begin("intc@8000000").cells("phandle", {kGicPhandle}).cells("interrupts", {1, 9, 4});
  builder.cells("reg", {0, 0x800'0000, 0, 0x1'0000, 0, 0x801'0000, 0, 0x1'0000,  //
                        0, 0x803'0000, 0, 0x1'0000, 0, 0x804'0000, 0, 0x1'0000});
  builder.text("compatible", "arm,cortex-a15-gic").flag("ranges").cells("#size-cells", {2});
  builder.cells("#address-cells", {2}).flag("interrupt-controller").cells("#interrupt-cells", {3}).end();
  builder.begin("timer").cells("interrupts", {1, 13, 0x104, 1, 14, 0x104, 1, 11, 0x104, 1, 10, 0x104});
  builder.flag("always-on").text("compatible", "arm,armv7-timer").end();
  builder.begin("apb-pclk").cells("phandle", {kClockPhandle}).text("clock-output-names", "clk24mhz");
  builder.cells("clock-frequency", {24'000'000}).cells("#clock-cells", {0}).text("compatible", "fixed-clock").end();
}

}  // namespace

Blob::Blob(std::span<const std::byte> bytes) : Blob(bytes.size()) {
  std::ranges::copy(bytes, data());
}

void Blob::resize(std::size_t size) {
  words_.resize((size + 7) / 8);
  size_ = size;
}

DtbBuilder::DtbBuilder() : blob_(kRoom) {
  expect(fdt_create(blob_.data(), static_cast<int>(kRoom)));
}

void DtbBuilder::begin_structure() {
  if (!in_structure_) expect(fdt_finish_reservemap(blob_.data()));
  in_structure_ = true;
}

DtbBuilder& DtbBuilder::reserve(std::uint64_t base, std::uint64_t size) {
  expect(fdt_add_reservemap_entry(blob_.data(), base, size));
  return *this;
}

DtbBuilder& DtbBuilder::begin(const std::string& name) {
  begin_structure();
  expect(fdt_begin_node(blob_.data(), name.c_str()));
  return *this;
}

DtbBuilder& DtbBuilder::end() {
  expect(fdt_end_node(blob_.data()));
  return *this;
}

DtbBuilder& DtbBuilder::bytes(const std::string& name, std::span<const std::byte> value) {
  expect(fdt_property(blob_.data(), name.c_str(), value.data(), static_cast<int>(value.size())));
  return *this;
}

DtbBuilder& DtbBuilder::cells(const std::string& name, std::initializer_list<std::uint32_t> values) {
  return bytes(name, big_endian(values));
}

DtbBuilder& DtbBuilder::text(const std::string& name, const std::string& value) {
  return texts(name, {value});
}

DtbBuilder& DtbBuilder::texts(const std::string& name, std::initializer_list<std::string> values) {
  std::string all;
  for (const std::string& value : values) all.append(value).push_back('\0');
  return bytes(name, std::as_bytes(std::span(all)));
}

DtbBuilder& DtbBuilder::flag(const std::string& name) {
  return bytes(name, {});
}

DtbBuilder& DtbBuilder::reg(std::uint64_t base, std::uint64_t size) {
  return cells("reg", {high(base), low(base), high(size), low(size)});
}

Blob DtbBuilder::finish() {
  expect(fdt_finish(blob_.data()));
  blob_.resize(fdt_totalsize(blob_.data()));
  return blob_;
}

Blob virt_dtb(const VirtMachine& machine) {
  DtbBuilder builder;
  if (machine.reservations) machine.reservations(builder);
  builder.begin("").cells("interrupt-parent", {kGicPhandle}).text("model", "linux,dummy-virt");
  builder.cells("#size-cells", {2}).cells("#address-cells", {2}).text("compatible", "linux,dummy-virt");
  add_memory(builder, machine);
  add_cpus(builder, machine);
  add_devices(builder);
  builder.begin("chosen").text("stdout-path", "/pl011@9000000");
  if (machine.more_chosen) machine.more_chosen(builder);
  builder.end();
  if (machine.more) machine.more(builder);
  return builder.end().finish();
}

Blob virt_dtb(const VirtMachine& machine, const std::function<void(void* blob)>& change) {
  const Blob closed = virt_dtb(machine);
  Blob open(kRoom);
  expect(fdt_open_into(closed.bytes().data(), open.data(), static_cast<int>(kRoom)));
  change(open.data());
  expect(fdt_pack(open.data()));
  open.resize(fdt_totalsize(open.data()));
  return open;
}

void set_cells(void* blob, const char* path, const char* property, std::initializer_list<std::uint32_t> values) {
  const auto bytes = big_endian(values);
  expect(fdt_setprop(blob, offset_of(blob, path), property, bytes.data(), static_cast<int>(bytes.size())));
}

void set_text(void* blob, const char* path, const char* property, const char* value) {
  expect(fdt_setprop_string(blob, offset_of(blob, path), property, value));
}

void set_texts(void* blob, const char* path, const char* property, std::initializer_list<const char*> values) {
  std::string joined;
  for (const char* value : values) joined.append(value).push_back('\0');
  expect(fdt_setprop(blob, offset_of(blob, path), property, joined.data(), static_cast<int>(joined.size())));
}

void set_flag(void* blob, const char* path, const char* property) {
  expect(fdt_setprop(blob, offset_of(blob, path), property, nullptr, 0));
}

void remove_property(void* blob, const char* path, const char* property) {
  expect(fdt_delprop(blob, offset_of(blob, path), property));
}

void remove_node(void* blob, const char* path) {
  expect(fdt_del_node(blob, offset_of(blob, path)));
}

}  // namespace cadastre
