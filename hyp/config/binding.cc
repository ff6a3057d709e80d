#include "hyp/config/binding.hh"

#include <algorithm>
#include <array>
#include <memory>

#include "hyp/config/xen_binding.hh"
#include "mm/translation/descriptor.hh"

namespace cadastre {
namespace {

constexpr std::string_view kHypervisor = "cadastre,hypervisor";
constexpr std::string_view kGuest = "cadastre,guest";

// A misspelt name must not pass for a default.
constexpr std::array<std::string_view, 2> kHypervisorProperties = {"compatible", "bootargs"};
constexpr std::array<std::string_view, 6> kGuestProperties = {"compatible", "memory",          "cpus",
                                                              "populate",   "largest-mapping", "status"};
constexpr std::array<std::string_view, 4> kKernelProperties = {"file", "reg", "bootargs", "load-offset"};
constexpr std::array<std::string_view, 2> kInitrdProperties = {"file", "reg"};
// What a node of any kind may have.
constexpr std::array<std::string_view, 4> kCommonProperties = {"phandle", "linux,phandle", "#address-cells",
                                                               "#size-cells"};

bool is_among(std::span<const std::string_view> names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

void refuse_unknown(const DtNode& node, std::span<const std::string_view> known, Refusals& refusals) {
  for (const std::string_view name : node.property_names()) {
    if (is_among(known, name) || is_among(kCommonProperties, name)) continue;
    refuse(refusals, node, "unknown property '{}': correct its name or remove it", name);
  }
}

// 2 + 2 cells, whatever the node above says: whoever loads the file writes it.
void read_range(const DtNode& node, GuestModule& module, Refusals& refusals) {
  constexpr DtCells kCells = {.address = 2, .size = 2};
  if (!node.has("reg")) return;  // check_plan says what that means
  const auto reg = DtReg::of(node, kCells, refusals);
  if (!reg) return;
  module.range = {.base = PhysAddr((*reg)[0].base), .size = (*reg)[0].size};
  module.is_loaded = true;
  if (reg->count() != 1) refuse(refusals, node, "reg has {} entries: give the one of the loaded file", reg->count());
}

void read_file(const DtNode& node, GuestModule& module, Refusals& refusals) {
  const auto property = node.property("file");
  if (!property) return;
  const auto text = property->string();
  if (!text || text->empty()) {
    refuse(refusals, node, "file must be the name of a file: correct it");
    return;
  }
  // The end of a long name tells more than its beginning.
  const std::size_t kept = std::min(text->size(), module.file.capacity());
  (void)module.file.assign(text->substr(text->size() - kept));
}

void read_module(const DtNode& node, GuestModule& module, Refusals& refusals) {
  if (module.is_given) {
    refuse(refusals, node, "a second {} node: remove one", node.name());
    return;
  }
  module.is_given = true;
  module.path = node.path();
  read_file(node, module, refusals);
  read_range(node, module, refusals);
}

void read_kernel(const DtNode& node, GuestPlan& guest, Refusals& refusals) {
  refuse_unknown(node, kKernelProperties, refusals);
  read_module(node, guest.kernel, refusals);
  read_guest_bootargs(node, guest, refusals);
  const auto offset = node.property("load-offset");
  if (!offset) return;
  guest.load_offset = offset->number();
  if (!guest.load_offset) refuse(refusals, node, "load-offset must be a number of one or two cells: correct it");
}

// [DT 2.3] `memory` is bytes in two cells, so that it cannot be mistaken for a count of anything else.
void read_memory_size(const DtNode& node, GuestPlan& guest, Refusals& refusals) {
  const auto memory = node.property("memory");
  if (memory && memory->size() == 2 * DtProperty::kCellSize) {
    guest.memory = memory->number(0, 2);
  } else {
    refuse(refusals, node,
           "memory must be there, bytes in two cells: write memory = /bits/ 64 <0x8000000> for 128 MiB");
  }
}

// When RAM is populated, and in how large pieces.
void read_policy(const DtNode& node, GuestPlan& guest, Refusals& refusals) {
  if (const auto populate = node.property("populate")) {
    const auto text = populate->string();
    guest.is_eager = text == "eager";
    if (!guest.is_eager && text != "lazy") {
      refuse(refusals, node, R"(populate must be "lazy" or "eager": correct it)");
    }
  }
  const auto largest = node.property("largest-mapping");
  if (!largest) return;
  const std::uint32_t size = largest->size() == DtProperty::kCellSize ? largest->cell(0) : 0;
  guest.largest_level = size == level_size(1) ? 1 : size == level_size(2) ? 2 : 3;
  if (size != level_size(guest.largest_level)) {
    refuse(refusals, node, "largest-mapping must be 0x1000, 0x200000 or 0x40000000, in one cell: correct it");
  } else if (guest.largest_level == 1 && !guest.is_eager) {
    refuse(refusals, node, "largest-mapping of 1 GiB is for a guest with populate = \"eager\": say so, or have less");
  }
}

void read_guest(const DtNode& node, Configuration& configuration, Refusals& refusals) {
  if (!node.is_compatible(kGuest)) {
    refuse(refusals, node, "not compatible with \"{}\": say so, or remove the node", kGuest);
    return;
  }
  GuestPlan* guest = add_guest(node, configuration, refusals);
  if (guest == nullptr) return;
  refuse_unknown(node, kGuestProperties, refusals);
  read_memory_size(node, *guest, refusals);
  read_cpu_count(node, *guest, refusals);
  read_policy(node, *guest, refusals);
  for (const DtNode child : node.children()) {
    if (child.is_named("kernel")) {
      read_kernel(child, *guest, refusals);
    } else if (child.is_named("initrd")) {
      refuse_unknown(child, kInitrdProperties, refusals);
      read_module(child, guest->initrd, refusals);
    } else {
      refuse(refusals, child, "neither kernel nor initrd: correct its name or remove it");
    }
  }
  if (!guest->kernel.is_given) refuse(refusals, node, "no kernel node: give one with the file to start");
}

// It is a prefix of the guest's lines on the console and a word in reports.
bool is_name(std::string_view name) {
  return std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view(",._+-@").contains(c);
  });
}

}  // namespace

GuestPlan* add_guest(const DtNode& node, Configuration& configuration, Refusals& refusals) {
  const std::string_view name = node.name();
  if (name.size() > decltype(GuestPlan::name)::capacity() || !is_name(name)) {
    refuse(refusals, node, "the name must have at most {} of the characters that a node's name may have: shorten it",
           decltype(GuestPlan::name)::capacity());
    return nullptr;
  }
  const auto is_same = [&](const GuestPlan& other) { return other.name.view() == name; };
  if (std::ranges::any_of(configuration.guests, is_same)) {
    refuse(refusals, node, "a second guest of this name: rename one");
    return nullptr;
  }
  GuestPlan* guest = configuration.guests.emplace_back();
  if (guest == nullptr) {
    refuse(refusals, node, "more than {} guests: remove some", configuration.guests.capacity());
    return nullptr;
  }
  (void)guest->name.assign(name);
  guest->path = node.path();
  return guest;
}

void read_guest_bootargs(const DtNode& node, GuestPlan& guest, Refusals& refusals) {
  const auto bootargs = node.property("bootargs");
  if (!bootargs || bootargs->size() == 0) return;  // `bootargs;` says nothing
  const auto text = bootargs->string();
  if (!text || !guest.bootargs.assign(*text)) {
    refuse(refusals, node, "bootargs must be a string of at most {} characters: shorten it", guest.bootargs.capacity());
  }
}

void read_cpu_count(const DtNode& node, GuestPlan& guest, Refusals& refusals) {
  const auto cpus = node.property("cpus");
  if (!cpus) return;
  if (cpus->size() != DtProperty::kCellSize) {
    refuse(refusals, node, "cpus must be a number of one cell: correct it");
    return;
  }
  guest.cpus = cpus->cell(0);
}

void read_own_binding(const DtNode& hypervisor, Configuration& configuration, Refusals& refusals) {
  if (!hypervisor.is_compatible(kHypervisor)) {
    refuse(refusals, hypervisor, "not compatible with \"{}\": say so", kHypervisor);
    return;
  }
  refuse_unknown(hypervisor, kHypervisorProperties, refusals);
  for (const DtNode node : hypervisor.children()) {
    if (node.is_enabled()) read_guest(node, configuration, refusals);
  }
}

bool read_configuration(const DeviceTree& tree, Configuration& configuration, Refusals& refusals) {
  configuration.guests.clear();
  const auto hypervisor = tree.find("/hypervisor");
  if (hypervisor) read_own_binding(*hypervisor, configuration, refusals);
  if (const auto chosen = tree.find("/chosen")) read_xen_binding(*chosen, configuration, refusals);
  if (configuration.guests.empty() && refusals.empty()) {
    refusals.add("/hypervisor: no guest: describe one (dts/README.md), compatible = \"{}\"", kGuest);
  }
  return refusals.empty();
}

SizeText size_text(std::uint64_t bytes) {
  std::array<char, SizeText::capacity()> text;
  if (bytes != 0 && bytes % (1U << 20) == 0) return SizeText(format_to(text, "{} MiB", bytes >> 20));
  if (bytes != 0 && bytes % (1U << 10) == 0) return SizeText(format_to(text, "{} KiB", bytes >> 10));
  return SizeText(format_to(text, "{} bytes", bytes));
}

}  // namespace cadastre
