#include "tests/trees/tree.hh"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

extern "C" {
#include <libfdt.h>
}

namespace cadastre::trees {
namespace {

constexpr std::size_t kCell = 4;

void expect(int result) {
  if (result >= 0) return;
  std::fputs(fdt_strerror(result), stderr);
  std::abort();
}

Node read_node(const void* blob, int offset) {
  Node node{.name = fdt_get_name(blob, offset, nullptr), .properties = {}, .children = {}};
  for (int at = fdt_first_property_offset(blob, offset); at >= 0; at = fdt_next_property_offset(blob, at)) {
    const char* name = nullptr;
    int size = 0;
    const auto* value = static_cast<const std::byte*>(fdt_getprop_by_offset(blob, at, &name, &size));
    expect(size);
    node.properties.push_back({name, Bytes(value, value + size)});
  }
  for (int at = fdt_first_subnode(blob, offset); at >= 0; at = fdt_next_subnode(blob, at)) {
    node.children.push_back(read_node(blob, at));
  }
  return node;
}

void write_node(void* blob, const Node& node) {
  expect(fdt_begin_node(blob, node.name.c_str()));
  for (const Property& property : node.properties) {
    expect(fdt_property(blob, property.name.c_str(), property.value.data(), static_cast<int>(property.value.size())));
  }
  for (const Node& child : node.children) write_node(blob, child);
  expect(fdt_end_node(blob));
}

std::size_t size_of(const Node& node) {
  std::size_t size = node.name.size() + 16;
  for (const Property& property : node.properties) size += property.name.size() + property.value.size() + 24;
  for (const Node& child : node.children) size += size_of(child);
  return size;
}

std::uint64_t number(std::span<const std::uint32_t> cells) {
  std::uint64_t value = 0;
  for (const std::uint32_t cell : cells) value = value << 32 | cell;
  return value;
}

bool is_named(const Node& node, std::string_view wanted) {
  return node.name == wanted || (node.name.starts_with(wanted) && node.name[wanted.size()] == '@');
}

}  // namespace

std::vector<std::uint32_t> Property::cells() const {
  std::vector<std::uint32_t> cells;
  for (std::size_t at = 0; at + kCell <= value.size(); at += kCell) {
    std::uint32_t cell = 0;
    for (std::size_t i = 0; i < kCell; ++i) cell = cell << 8 | std::to_integer<std::uint32_t>(value[at + i]);
    cells.push_back(cell);
  }
  return cells;
}

std::vector<std::string> Property::strings() const {
  std::vector<std::string> strings;
  std::string text;
  for (const std::byte b : value) {
    if (b == std::byte{}) {
      strings.push_back(std::exchange(text, {}));
    } else {
      text += static_cast<char>(b);
    }
  }
  return strings;
}

const Property* Node::property(std::string_view wanted) const {
  const auto found = std::ranges::find(properties, wanted, &Property::name);
  return found == properties.end() ? nullptr : &*found;
}

Property* Node::property(std::string_view wanted) {
  const auto found = std::ranges::find(properties, wanted, &Property::name);
  return found == properties.end() ? nullptr : &*found;
}

const Node* Node::child(std::string_view wanted) const {
  const auto found = std::ranges::find_if(children, [&](const Node& node) { return is_named(node, wanted); });
  return found == children.end() ? nullptr : &*found;
}

Node* Node::child(std::string_view wanted) {
  const auto found = std::ranges::find_if(children, [&](const Node& node) { return is_named(node, wanted); });
  return found == children.end() ? nullptr : &*found;
}

Node& Node::child_or_new(const std::string& wanted) {
  if (Node* found = child(wanted)) return *found;
  return children.emplace_back(Node{.name = wanted, .properties = {}, .children = {}});
}

bool Node::is_enabled() const {
  const Property* status = property("status");
  return status == nullptr || status->strings() == std::vector<std::string>{"okay"} ||
         status->strings() == std::vector<std::string>{"ok"};
}

bool Node::is_compatible(std::string_view wanted) const {
  const Property* compatible = property("compatible");
  if (compatible == nullptr) return false;
  const std::vector<std::string> strings = compatible->strings();
  return std::ranges::find(strings, wanted) != strings.end();
}

std::uint32_t Node::cell(std::string_view wanted, std::uint32_t otherwise) const {
  const Property* found = property(wanted);
  return found == nullptr || found->value.size() != kCell ? otherwise : found->cells()[0];
}

Node& Node::set(const std::string& wanted, Bytes value) {
  if (Property* found = property(wanted)) {
    found->value = std::move(value);
  } else {
    properties.push_back({wanted, std::move(value)});
  }
  return *this;
}

Node& Node::set(const std::string& wanted, std::initializer_list<std::uint32_t> cells) {
  Bytes value;
  for (const std::uint32_t cell : cells) append_cells(value, cell, 1);
  return set(wanted, std::move(value));
}

Node& Node::set_text(const std::string& wanted, std::initializer_list<std::string_view> strings) {
  Bytes value;
  for (const std::string_view text : strings) {
    for (const char c : text) value.push_back(static_cast<std::byte>(c));
    value.push_back({});
  }
  return set(wanted, std::move(value));
}

void Node::remove(std::string_view wanted) {
  std::erase_if(properties, [&](const Property& property) { return property.name == wanted; });
}

void append_cells(Bytes& bytes, std::uint64_t value, unsigned cells) {
  for (unsigned i = cells * kCell; i-- > 0;) bytes.push_back(static_cast<std::byte>(i < 8 ? value >> (8 * i) : 0));
}

std::vector<Range> reg_of(const Node& node, unsigned address_cells, unsigned size_cells) {
  std::vector<Range> ranges;
  const Property* reg = node.property("reg");
  const std::vector<std::uint32_t> cells = reg == nullptr ? std::vector<std::uint32_t>{} : reg->cells();
  const std::size_t step = address_cells + size_cells;
  for (std::size_t at = 0; step != 0 && at + step <= cells.size(); at += step) {
    const std::span entry = std::span(cells).subspan(at, step);
    ranges.push_back({number(entry.first(address_cells)), number(entry.subspan(address_cells))});
  }
  return ranges;
}

Bytes reg_in(std::span<const Range> ranges, unsigned address_cells, unsigned size_cells) {
  Bytes bytes;
  for (const Range& range : ranges) {
    append_cells(bytes, range.base, address_cells);
    append_cells(bytes, range.size, size_cells);
  }
  return bytes;
}

Tree read_tree(std::span<const std::byte> blob) {
  Tree tree;
  for (int i = 0; i < fdt_num_mem_rsv(blob.data()); ++i) {
    Range& range = tree.reservations.emplace_back();
    expect(fdt_get_mem_rsv(blob.data(), i, &range.base, &range.size));
  }
  tree.root = read_node(blob.data(), 0);
  return tree;
}

std::vector<std::uint64_t> write_tree(const Tree& tree) {
  std::vector<std::uint64_t> words((size_of(tree.root) / 8) + (2 * tree.reservations.size()) + 64);
  void* blob = words.data();
  expect(fdt_create(blob, static_cast<int>(words.size() * 8)));
  for (const Range& range : tree.reservations) expect(fdt_add_reservemap_entry(blob, range.base, range.size));
  expect(fdt_finish_reservemap(blob));
  write_node(blob, tree.root);
  expect(fdt_finish(blob));
  words.resize((fdt_totalsize(blob) + 7) / 8);
  return words;
}

std::span<const std::byte> blob_of(std::span<const std::uint64_t> words) {
  return std::as_bytes(words).first(fdt_totalsize(words.data()));
}

}  // namespace cadastre::trees
