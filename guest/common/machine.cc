#include "guest/common/machine.hh"

#include <libfdt.h>

#include <charconv>

namespace cadastre::guest {

constinit Machine machine;

namespace {

// `cells` 32-bit cells from `index` on, as one number. The property has them: the caller looked.
std::uint64_t number(const fdt32_t* property, int index, int cells) {
  std::uint64_t value = 0;
  for (int i = 0; i < cells; ++i) value = value << 32 | fdt32_ld(property + index + i);
  return value;
}

// The cells of a property, or null if it does not have `count` of them.
const fdt32_t* cells_of(const void* dtb, int node, const char* name, int count) {
  int length = 0;
  const void* property = node < 0 ? nullptr : fdt_getprop(dtb, node, name, &length);
  return length >= count * static_cast<int>(sizeof(fdt32_t)) ? static_cast<const fdt32_t*>(property) : nullptr;
}

// The node's interrupt at `index`, as the GIC counts them [Linux arm,gic.yaml: kind, number, flags].
std::uint32_t interrupt_of(const void* dtb, int node, int index) {
  const fdt32_t* interrupts = cells_of(dtb, node, "interrupts", 3 * index + 3);
  if (interrupts == nullptr) return 0;
  constexpr std::uint32_t kFirstShared = 32;
  constexpr std::uint32_t kFirstPrivate = 16;
  const bool is_private = fdt32_ld(interrupts + std::ptrdiff_t{3} * index) == 1;
  return fdt32_ld(interrupts + std::ptrdiff_t{3} * index + 1) + (is_private ? kFirstPrivate : kFirstShared);
}

int find_gic(const void* dtb) {
  const int node = fdt_node_offset_by_compatible(dtb, -1, "arm,cortex-a15-gic");
  return node >= 0 ? node : fdt_node_offset_by_compatible(dtb, -1, "arm,gic-400");
}

// The first word of the command line that `is_it` likes; without data if there is none.
template <class Predicate>
std::string_view find_word(Predicate&& is_it) {
  std::string_view rest = machine.bootargs;
  while (!rest.empty()) {
    const std::string_view word = rest.substr(0, rest.find(' '));
    if (is_it(word)) return word;
    rest.remove_prefix(word.size() < rest.size() ? word.size() + 1 : rest.size());
  }
  return {};
}

}  // namespace

const char* read_machine(const void* dtb) {
  if (fdt_check_header(dtb) != 0) return "r2 does not point to a device tree";
  const int address_cells = fdt_address_cells(dtb, 0);
  const int size_cells = fdt_size_cells(dtb, 0);
  if (address_cells < 1 || address_cells > 2 || size_cells < 1 || size_cells > 2) return "odd cell counts at the root";
  const int region_cells = address_cells + size_cells;
  const auto address_at = [&](const fdt32_t* reg, int region) {
    return number(reg, region * region_cells, address_cells);
  };

  const int memory = fdt_node_offset_by_prop_value(dtb, -1, "device_type", "memory", sizeof("memory"));
  const fdt32_t* ram = cells_of(dtb, memory, "reg", region_cells);
  if (ram == nullptr) return "no memory node";
  machine.ram_base = address_at(ram, 0);
  machine.ram_size = number(ram, address_cells, size_cells);

  const int uart = fdt_node_offset_by_compatible(dtb, -1, "arm,pl011");
  const fdt32_t* uart_reg = cells_of(dtb, uart, "reg", region_cells);
  if (uart_reg == nullptr) return "no PL011";
  machine.uart = static_cast<std::uint32_t>(address_at(uart_reg, 0));
  machine.uart_interrupt = interrupt_of(dtb, uart, 0);

  const fdt32_t* gic_reg = cells_of(dtb, find_gic(dtb), "reg", 2 * region_cells);
  if (gic_reg == nullptr) return "no GICv2";
  machine.distributor = static_cast<std::uint32_t>(address_at(gic_reg, 0));
  machine.cpu_interface = static_cast<std::uint32_t>(address_at(gic_reg, 1));

  // In order: secure, non-secure physical, virtual, hypervisor.
  machine.timer_interrupt = interrupt_of(dtb, fdt_node_offset_by_compatible(dtb, -1, "arm,armv7-timer"), 2);
  if (machine.timer_interrupt == 0) return "no virtual timer";

  const int psci = fdt_path_offset(dtb, "/psci");
  const char* method = psci < 0 ? nullptr : static_cast<const char*>(fdt_getprop(dtb, psci, "method", nullptr));
  if (method == nullptr) return "no PSCI";
  machine.psci_by_smc = std::string_view(method) == "smc";

  const int chosen = fdt_path_offset(dtb, "/chosen");
  const char* bootargs = chosen < 0 ? nullptr : static_cast<const char*>(fdt_getprop(dtb, chosen, "bootargs", nullptr));
  if (bootargs != nullptr) machine.bootargs = bootargs;
  return nullptr;
}

bool has_word(std::string_view word) {
  return find_word([&](std::string_view it) { return it == word; }).data() != nullptr;
}

std::uint32_t number_of(std::string_view key, std::uint32_t otherwise) {
  const std::string_view word = find_word(
      [&](std::string_view it) { return it.starts_with(key) && it.size() > key.size() && it[key.size()] == '='; });
  std::uint32_t number = otherwise;
  if (word.data() != nullptr) std::from_chars(word.data() + key.size() + 1, word.data() + word.size(), number);
  return number;
}

}  // namespace cadastre::guest

// libfdt and newlib are compiled with stack protection.
extern "C" {
constinit std::uintptr_t __stack_chk_guard = 0x5bd1e995;  // NOLINT(bugprone-reserved-identifier): its name
[[noreturn]] void __stack_chk_fail() {                    // NOLINT(bugprone-reserved-identifier): its name
  cadastre::guest::system_off();
}
}
