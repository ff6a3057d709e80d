// Which of the GIC's interrupts a device raises: `interrupts` or `interrupts-extended`, through the `interrupt-map`s of
// the buses between [DT 2.4].
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "platform/dtb/device_tree.hh"

namespace cadastre {

class InterruptTree {
 public:
  InterruptTree(const DeviceTree& tree, const DtNode& gic);

  // How many interrupts `node` has; 0 as well when they cannot be read.
  [[nodiscard]] std::size_t count(const DtNode& node) const;
  // The GIC's id of interrupt `i` of `node`; nothing when there is none, or when it does not come to the GIC.
  [[nodiscard]] std::optional<std::uint32_t> gic_interrupt(const DtNode& node, std::size_t i) const;

 private:
  static constexpr std::size_t kMaxCells = 4;
  // Who is told, and what.
  struct Specifier {
    DtNode controller;
    InplaceVector<std::uint32_t, kMaxCells> cells;
  };

  [[nodiscard]] std::optional<DtNode> by_phandle(std::uint32_t phandle) const;
  [[nodiscard]] std::optional<DtNode> controller_of(const DtNode& node) const;
  [[nodiscard]] std::optional<Specifier> specifier(const DtNode& node, std::size_t i) const;
  [[nodiscard]] std::optional<Specifier> extended_specifier(const DtProperty& list, std::size_t i) const;
  // One bus further, by its map.
  [[nodiscard]] std::optional<Specifier> through_map(const DtNode& device, const Specifier& from) const;

  const DeviceTree& tree_;
  DtNode gic_;
  std::optional<std::uint32_t> gic_phandle_;
};

// [GIC binding] The GIC's id for the three cells of a specifier: kind (0 = SPI, 1 = PPI), number, flags.
[[nodiscard]] std::optional<std::uint32_t> gic_id(std::uint32_t kind, std::uint32_t number);

}  // namespace cadastre
