// A flattened device tree as C++ values: libfdt underneath, nothing is copied, nothing is trusted.
//
//   blob   | header | memory reservations | structure: nodes and properties | strings |
//                                            ^ DtNode        ^ DtProperty
//
// A DtNode and a DtProperty point into the blob: they live as long as it is mapped. libfdt finds a node's
// parent by reading from the beginning, so a DtNode knows its way from the root instead, and reading a
// machine is one walk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>

#include "mm/base/range.hh"
#include "platform/dtb/fixed.hh"
#include "platform/dtb/refusals.hh"

namespace cadastre {

// [DT 2.2.1.1] has no bound for a path; a longer one keeps its last part, after "...".
using DtPath = FixedString<80>;

class DtProperty {
 public:
  explicit DtProperty(std::span<const std::byte> bytes) : bytes_(bytes) {}

  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] std::size_t cells() const { return bytes_.size() / kCellSize; }
  // Cell `i` of 32 bits, big-endian. `i < cells()`.
  [[nodiscard]] std::uint32_t cell(std::size_t i) const;
  // The number in `count` cells from cell `first` on; of more than two cells the last two. `first + count <=
  // cells()`.
  [[nodiscard]] std::uint64_t number(std::size_t first, std::size_t count) const;
  // A number of one or two cells, whichever the property has; nothing when it has another size.
  [[nodiscard]] std::optional<std::uint64_t> number() const;
  // The property as a string: nothing when it is numbers, or a list of several strings [DT 2.2.4].
  [[nodiscard]] std::optional<std::string_view> string() const;
  // The first of its strings; nothing when it does not end.
  [[nodiscard]] std::optional<std::string_view> first_string() const;
  // Which of its strings is `text`, the first from 0 on.
  [[nodiscard]] std::optional<std::size_t> index_of(std::string_view text) const;
  // Whether one of its strings is `text`.
  [[nodiscard]] bool lists(std::string_view text) const;

  static constexpr std::size_t kCellSize = 4;

 private:
  std::span<const std::byte> bytes_;
};

class DtNode {
 public:
  // Deeper nodes are passed over. (`cpu-map` goes down to 7.)
  static constexpr std::size_t kMaxDepth = 12;

  [[nodiscard]] std::size_t depth() const { return way_.size() - 1; }  // the root's is 0
  [[nodiscard]] std::string_view name() const;                         // with its unit address: "memory@40000000"
  [[nodiscard]] DtPath path() const;
  [[nodiscard]] std::optional<DtProperty> property(std::string_view name) const;
  [[nodiscard]] bool is_named(std::string_view wanted) const { return is_name(name(), wanted); }
  // Whether `name` is `wanted`, with or without its unit address.
  [[nodiscard]] static bool is_name(std::string_view name, std::string_view wanted);
  // Several at a time: values[i] is the property names[i].
  void properties(std::span<const std::string_view> names, std::span<std::optional<DtProperty>> values) const;
  [[nodiscard]] bool has(std::string_view name) const { return property(name).has_value(); }
  [[nodiscard]] bool is_compatible(std::string_view compatible) const;
  class PropertyNames;
  [[nodiscard]] PropertyNames property_names() const;  // in the blob's order
  // No `status`, "okay" or "ok" [DT 2.3.4].
  [[nodiscard]] bool is_enabled() const;
  // It and all above it.
  [[nodiscard]] bool is_reachable() const;
  [[nodiscard]] std::optional<DtNode> parent() const;  // nothing for the root
  // With or without its unit address; the first that matches.
  [[nodiscard]] std::optional<DtNode> child(std::string_view name) const;
  class Children;
  [[nodiscard]] Children children() const;  // in the blob's order
  // The next node of the whole tree, children before siblings; nothing after the last.
  [[nodiscard]] std::optional<DtNode> next() const;
  // The same node of the same blob.
  friend bool operator==(const DtNode& a, const DtNode& b) { return a.blob_ == b.blob_ && a.offset() == b.offset(); }

 private:
  friend class DeviceTree;
  explicit DtNode(const void* blob) : blob_(blob) { (void)way_.push_back(0); }
  // The child at `offset`. `parent` is above kMaxDepth.
  DtNode(const DtNode& parent, int offset) : DtNode(parent) { CHECK(way_.push_back(offset)); }
  [[nodiscard]] int offset() const { return way_[depth()]; }
  [[nodiscard]] std::optional<DtNode> child_at(int offset) const;

  const void* blob_;
  InplaceVector<int, kMaxDepth + 1> way_;  // offsets from the root to this node
};

class DtNode::Children {
 public:
  class Iterator {
   public:
    Iterator(const DtNode& parent, int offset) : parent_(parent), offset_(offset) {}
    [[nodiscard]] DtNode operator*() const { return {parent_, offset_}; }
    Iterator& operator++();
    // Whether `a` stands on a child.
    friend bool operator!=(const Iterator& a, std::default_sentinel_t) { return a.offset_ >= 0; }

   private:
    DtNode parent_;
    int offset_;
  };

  explicit Children(const DtNode& parent) : parent_(parent) {}
  [[nodiscard]] Iterator begin() const;
  [[nodiscard]] std::default_sentinel_t end() const { return std::default_sentinel; }

 private:
  DtNode parent_;
};

class DtNode::PropertyNames {
 public:
  class Iterator {
   public:
    Iterator(const void* blob, int offset) : blob_(blob), offset_(offset) {}
    [[nodiscard]] std::string_view operator*() const;
    Iterator& operator++();
    friend bool operator!=(const Iterator& a, std::default_sentinel_t) { return a.offset_ >= 0; }

   private:
    const void* blob_;
    int offset_;
  };

  explicit PropertyNames(const DtNode& node) : blob_(node.blob_), node_(node.offset()) {}
  [[nodiscard]] Iterator begin() const;
  [[nodiscard]] std::default_sentinel_t end() const { return std::default_sentinel; }

 private:
  const void* blob_;
  int node_;
};

// As it is written, in whose address space it may be.
using DtRange = Range<std::uint64_t>;

class DeviceTree {
 public:
  // Bytes of the header that `blob_size` looks at.
  static constexpr std::size_t kHeaderSize = 40;

  // How many bytes the blob says it has, from its header: for whoever has to map it. At most kMaxSize.
  [[nodiscard]] static std::optional<std::size_t> blob_size(std::span<const std::byte> header, Refusals& refusals);
  // The tree in the first `blob_size` bytes of `blob`, which is 8-byte aligned [DT 5.6]; checked from end to
  // end, so that later reading cannot leave the blob.
  [[nodiscard]] static std::optional<DeviceTree> open(std::span<const std::byte> blob, Refusals& refusals);
  // The same without the full check and without a word: for finding the UART that a refusal is printed on.
  [[nodiscard]] static std::optional<DeviceTree> open_unchecked(std::span<const std::byte> blob);

  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] DtNode root() const { return DtNode(blob_); }
  // `path` is absolute or begins with an alias [DT 3.3].
  [[nodiscard]] std::optional<DtNode> find(std::string_view path) const;

  [[nodiscard]] std::size_t reservation_count() const;
  [[nodiscard]] DtRange reservation(std::size_t i) const;  // i < reservation_count()

  static constexpr std::size_t kMaxSize = std::size_t{2} << 20;  // as Linux [arm/booting: 4b]

 private:
  explicit DeviceTree(const void* blob);
  [[nodiscard]] std::optional<DtNode> child_of_root(std::string_view name) const;

  const void* blob_;
  struct Top {
    int offset = 0;
    std::string_view name;
  };
  InplaceVector<Top, 128> top_;  // the root's children, as far as there is room
};

// `PATH: REASON`.
template <class... Arguments>
void refuse(Refusals& refusals, const DtNode& node, std::string_view format, const Arguments&... arguments) {
  std::array<char, Refusals::kLineSize> reason;
  refusals.add("{}: {}", node.path().view(), format_to(reason, format, arguments...));
}

// #address-cells and #size-cells of a bus: how its children's `reg` is written.
struct DtCells {
  unsigned address = 0;
  unsigned size = 0;
};
// Nothing when one is missing or not 1 or 2; with `refusals`, that is a reason.
[[nodiscard]] std::optional<DtCells> cells_of(const DtNode& bus);
[[nodiscard]] std::optional<DtCells> cells_of(const DtNode& bus, Refusals& refusals);
// The same, each of the nearest node above that says it, as Xen reads its domains.
[[nodiscard]] std::optional<DtCells> inherited_cells(const DtNode& bus, Refusals& refusals);

// A `reg` of one entry or more.
class DtReg {
 public:
  // Nothing when it is missing or its length does not fit `cells`, those of the node's bus; with `refusals`,
  // that is a reason.
  [[nodiscard]] static std::optional<DtReg> of(const DtNode& node, DtCells cells);
  [[nodiscard]] static std::optional<DtReg> of(const DtNode& node, DtCells cells, Refusals& refusals);
  [[nodiscard]] std::size_t count() const { return property_.cells() / (cells_.address + cells_.size); }
  [[nodiscard]] DtRange operator[](std::size_t i) const;

 private:
  DtReg(DtProperty property, DtCells cells) : property_(property), cells_(cells) {}
  DtProperty property_;
  DtCells cells_;
};

// The CPU's address for `address` on `bus`, through `ranges` (or `dma-ranges`) of it and of the buses above.
// Nothing when a bus does not map it.
enum class DtRangesKind : std::uint8_t { kCpu, kDma };
[[nodiscard]] std::optional<std::uint64_t> translate(const DtNode& bus, std::uint64_t address, DtRangesKind kind);

}  // namespace cadastre
