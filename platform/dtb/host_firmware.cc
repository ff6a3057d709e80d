// The host's firmware: PSCI, by which CPUs are started and the machine is switched off [PSCI binding].
#include <algorithm>
#include <array>
#include <string_view>

#include "platform/dtb/host_parts.hh"
#include "platform/psci_functions.hh"

namespace cadastre {
namespace {

constexpr std::string_view kPsci01 = "arm,psci";
constexpr std::array<std::string_view, 2> kPsci02AndLater = {"arm,psci-1.0", "arm,psci-0.2"};

bool has_own_numbers(const DtProperty& compatible) {
  return std::ranges::none_of(kPsci02AndLater, [&](std::string_view name) { return compatible.lists(name); });
}

}  // namespace

bool is_psci(const DtProperty& compatible) {
  return !has_own_numbers(compatible) || compatible.lists(kPsci01);
}

HostPsci psci_of(const DtNode& node) {
  HostPsci psci;
  const auto method = node.property("method");
  if (!method) return psci;
  if (method->string() == "smc") psci.conduit = PsciConduit::kSmc;
  if (method->string() == "hvc") psci.conduit = PsciConduit::kHvc;
  const auto compatible = node.property("compatible");
  if (compatible && has_own_numbers(*compatible)) {
    const auto cpu_on = node.property("cpu_on");
    if (cpu_on && cpu_on->size() == DtProperty::kCellSize) psci.cpu_on = cpu_on->cell(0);
  } else {
    psci.cpu_on = psci::kCpuOn;
    psci.system_off = psci::kSystemOff;
  }
  return psci;
}

HostPsci find_psci(const DeviceTree& tree) {
  for (std::optional<DtNode> node = tree.root(); node; node = node->next()) {
    const auto compatible = node->property("compatible");
    if (compatible && is_psci(*compatible) && node->is_enabled()) return psci_of(*node);
  }
  return {};
}

HostPsci find_psci(std::span<const std::byte> blob) {
  const auto tree = DeviceTree::open_unchecked(blob);
  return tree ? find_psci(*tree) : HostPsci{};
}

}  // namespace cadastre
