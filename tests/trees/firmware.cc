#include "tests/trees/firmware.hh"

#include <algorithm>
#include <cstdlib>
#include <optional>

namespace cadastre::trees {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;
constexpr std::uint64_t kGiB = 1U << 30;
constexpr std::uint64_t kUsualRam = 0x4000'0000;

struct Cells {
  unsigned address;
  unsigned size;
};

Cells cells_of(const Node& bus) {
  return {.address = bus.cell("#address-cells", 1), .size = bus.cell("#size-cells", 1)};
}

bool is_memory(const Node& node) {
  const Property* type = node.property("device_type");
  return node.name == "memory" || node.name.starts_with("memory@") ||
         (type != nullptr && type->strings() == std::vector<std::string>{"memory"});
}

std::vector<Range> ram_of(const Node& root) {
  const Cells cells = cells_of(root);
  std::vector<Range> ram;
  for (const Node& node : root.children) {
    if (!is_memory(node) || !node.is_enabled()) continue;
    for (const Range& range : reg_of(node, cells.address, cells.size)) {
      if (range.size != 0) ram.push_back(range);
    }
  }
  return ram;
}

std::vector<Range> reserved_of(const Tree& tree) {
  std::vector<Range> reserved = tree.reservations;
  const Node* parent = tree.root.child("reserved-memory");
  if (parent == nullptr) return reserved;
  const Cells cells = cells_of(*parent);
  for (const Node& node : parent->children) {
    if (!node.is_enabled()) continue;
    for (const Range& range : reg_of(node, cells.address, cells.size)) reserved.push_back(range);
  }
  return reserved;
}

std::uint64_t base_of_ram(const Tree& tree, const Node* memory) {
  const Cells cells = cells_of(tree.root);
  if (memory != nullptr) {
    const std::vector<Range> banks = reg_of(*memory, cells.address, cells.size);
    if (!banks.empty()) return banks[0].base;
    if (const std::size_t at = memory->name.find('@'); at != std::string::npos) {
      return std::strtoull(memory->name.c_str() + at + 1, nullptr, 16);
    }
  }
  std::vector<Range> reserved = reserved_of(tree);
  if (reserved.empty()) return kUsualRam;
  return std::ranges::min(reserved, {}, &Range::base).base / kGiB * kGiB;
}

void fill_memory(Tree& tree) {
  if (!ram_of(tree.root).empty()) return;
  const Node* memory = tree.root.child("memory");
  const Range bank{.base = base_of_ram(tree, memory), .size = kGiB};
  const Cells cells = cells_of(tree.root);
  Node& node = tree.root.child_or_new("memory");
  node.set_text("device_type", {"memory"});
  node.set("reg", reg_in(std::span(&bank, 1), cells.address, cells.size));
}

bool has_psci(const Node& node) {
  return node.is_compatible("arm,psci-0.2") || node.is_compatible("arm,psci-1.0") ||
         std::ranges::any_of(node.children, has_psci);
}

void fill_psci(Tree& tree) {
  if (has_psci(tree.root)) return;
  tree.root.child_or_new("psci")
      .set_text("compatible", {"arm,psci-1.0", "arm,psci-0.2", "arm,psci"})
      .set_text("method", {"smc"});
  Node* cpus = tree.root.child("cpus");
  if (cpus == nullptr) return;
  for (Node& node : cpus->children) {
    const Property* type = node.property("device_type");
    if (type != nullptr && type->strings() == std::vector<std::string>{"cpu"}) node.set_text("enable-method", {"psci"});
  }
}

// The lowest place of whole MiB of RAM below 4 GiB that nobody has; and takes it.
Range take(const std::vector<Range>& ram, std::vector<Range>& taken, std::uint64_t size) {
  const auto overlaps = [](const Range& a, const Range& b) {
    return a.base < b.base + b.size && b.base < a.base + a.size;
  };
  for (const Range& bank : ram) {
    Range place{.base = (bank.base + (2 * kMiB) - 1) / (2 * kMiB) * (2 * kMiB), .size = size};
    for (; place.base + size <= std::min(bank.base + bank.size, 4 * kGiB); place.base += 2 * kMiB) {
      if (std::ranges::any_of(taken, [&](const Range& other) { return overlaps(place, other); })) continue;
      taken.push_back(place);
      return place;
    }
  }
  return {};
}

void add_module(Node& domain, const std::string& name, std::string_view kind, Range where) {
  Node& node = domain.child_or_new(name);
  node.set_text("compatible", {kind, "multiboot,module"});
  node.set("reg", reg_in(std::span(&where, 1), 2, 2));
}

void add_guest(Node& root, const Loaded& loaded) {
  Node& chosen = root.child_or_new("chosen");
  chosen.set_text("bootargs", {"console=ttyS0,115200 root=/dev/mmcblk0p2 rootwait"});
  Node& domain = chosen.child_or_new("domU1");
  domain.set_text("compatible", {"xen,domain"}).set("#address-cells", {2}).set("#size-cells", {2});
  domain.set("memory", {0, 16 << 10}).set("cpus", {1}).set("vpl011", {});
  add_module(domain, "module@kernel", "multiboot,kernel", loaded.kernel);
  add_module(domain, "module@initrd", "multiboot,ramdisk", loaded.initrd);
}

}  // namespace

Loaded fill_in(Tree& tree) {
  fill_memory(tree);
  fill_psci(tree);
  const std::vector<Range> ram = ram_of(tree.root);
  std::vector<Range> taken = reserved_of(tree);
  Loaded loaded;
  loaded.image = take(ram, taken, kMiB);
  loaded.tree = take(ram, taken, kMiB);
  loaded.kernel = take(ram, taken, kMiB);
  loaded.initrd = take(ram, taken, kMiB);
  tree.reservations.push_back(loaded.tree);
  add_guest(tree.root, loaded);
  return loaded;
}

}  // namespace cadastre::trees
