// A device tree as values that can be changed: read from a blob, and written as one again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cadastre::trees {

using Bytes = std::vector<std::byte>;

struct Property {
  std::string name;
  Bytes value;

  [[nodiscard]] std::vector<std::uint32_t> cells() const;
  [[nodiscard]] std::vector<std::string> strings() const;
};

struct Node {
  std::string name;  // with its unit address; the root's is empty
  std::vector<Property> properties;
  std::vector<Node> children;

  [[nodiscard]] Property* property(std::string_view wanted);
  [[nodiscard]] const Property* property(std::string_view wanted) const;
  [[nodiscard]] Node* child(std::string_view wanted);  // by its name without unit address
  [[nodiscard]] const Node* child(std::string_view wanted) const;
  Node& child_or_new(const std::string& wanted);
  [[nodiscard]] bool is_enabled() const;
  [[nodiscard]] bool is_compatible(std::string_view wanted) const;
  // One cell; `otherwise` when there is no such property.
  [[nodiscard]] std::uint32_t cell(std::string_view wanted, std::uint32_t otherwise) const;

  Node& set(const std::string& name, Bytes value);
  Node& set(const std::string& name, std::initializer_list<std::uint32_t> cells);
  Node& set_text(const std::string& name, std::initializer_list<std::string_view> strings);
  void remove(std::string_view name);
};

struct Range {
  std::uint64_t base = 0;
  std::uint64_t size = 0;
};

struct Tree {
  std::vector<Range> reservations;
  Node root;
};

// `value` at the end, in so many cells.
void append_cells(Bytes& bytes, std::uint64_t value, unsigned cells);
// The entries of `node`'s reg on a bus of these cells.
[[nodiscard]] std::vector<Range> reg_of(const Node& node, unsigned address_cells, unsigned size_cells);
[[nodiscard]] Bytes reg_in(std::span<const Range> ranges, unsigned address_cells, unsigned size_cells);

// The blob is whole. 8-byte aligned words that hold the new one; `blob_of` spans its bytes.
[[nodiscard]] Tree read_tree(std::span<const std::byte> blob);
[[nodiscard]] std::vector<std::uint64_t> write_tree(const Tree& tree);
[[nodiscard]] std::span<const std::byte> blob_of(std::span<const std::uint64_t> words);

}  // namespace cadastre::trees
