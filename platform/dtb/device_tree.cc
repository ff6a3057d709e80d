#include "platform/dtb/device_tree.hh"

extern "C" {
#include <libfdt.h>
}

namespace cadastre {

static_assert(DeviceTree::kHeaderSize == sizeof(fdt_header));

namespace {

constexpr std::uint32_t kOldestVersion = 16;  // the first without full paths in node names

// The header's first two words [DT 5.2].
struct Start {
  std::uint32_t magic;
  std::size_t size;
};
Start start_of(std::span<const std::byte> blob) {
  const DtProperty words(blob.first(2 * DtProperty::kCellSize));
  return {.magic = words.cell(0), .size = words.cell(1)};
}
bool is_plausible(const Start& start) {
  return start.magic == FDT_MAGIC && start.size >= DeviceTree::kHeaderSize && start.size <= DeviceTree::kMaxSize;
}

bool is_aligned(std::size_t value, std::size_t alignment) {
  return value % alignment == 0;
}

// Whether a walk over the structure comes to an end. libfdt's own would not: to it (1.6.1) the tag that follows a property of
// -12 bytes is that property.
bool has_end(const void* blob) {
  int next = 0;
  for (int at = 0; fdt_next_tag(blob, at, &next) != FDT_END; at = next) {
    if (next <= at) return false;
  }
  return true;
}

}  // namespace

std::uint32_t DtProperty::cell(std::size_t i) const {
  CHECK(i < cells());
  std::uint32_t value = 0;
  for (const std::byte b : bytes_.subspan(i * kCellSize, kCellSize)) {
    value = value << 8 | std::to_integer<std::uint32_t>(b);
  }
  return value;
}

std::uint64_t DtProperty::number(std::size_t first, std::size_t count) const {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i) value = value << 32 | cell(first + i);
  return value;
}

std::optional<std::uint64_t> DtProperty::number() const {
  if (size() != kCellSize && size() != 2 * kCellSize) return std::nullopt;
  return number(0, cells());
}

std::optional<std::string_view> DtProperty::string() const {
  const std::string_view text(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
  if (text.empty() || text.find('\0') != text.size() - 1) return std::nullopt;
  return text.substr(0, text.size() - 1);
}

std::optional<std::string_view> DtProperty::first_string() const {
  const std::string_view text(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
  const std::size_t end = text.find('\0');
  return end == std::string_view::npos ? std::nullopt : std::optional(text.substr(0, end));
}

std::optional<std::size_t> DtProperty::index_of(std::string_view text) const {
  std::string_view rest(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
  for (std::size_t i = 0;; ++i) {
    const std::size_t end = rest.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    if (rest.substr(0, end) == text) return i;
    rest.remove_prefix(end + 1);
  }
}

bool DtProperty::lists(std::string_view text) const {
  return fdt_stringlist_contains(reinterpret_cast<const char*>(bytes_.data()), static_cast<int>(bytes_.size()),
                                 FixedString<63>(text).c_str()) == 1;
}

std::string_view DtNode::name() const {
  int length = 0;
  const char* name = fdt_get_name(blob_, offset(), &length);
  return name == nullptr ? std::string_view() : std::string_view(name, static_cast<std::size_t>(length));
}

bool DtNode::is_name(std::string_view name, std::string_view wanted) {
  return name.starts_with(wanted) && (name.size() == wanted.size() || name[wanted.size()] == '@');
}

DtPath DtNode::path() const {
  constexpr std::string_view kCut = "...";
  DtPath path;
  // From the end to the beginning, for as long as there is room.
  std::optional<DtNode> node = *this;
  if (depth() == 0) path = DtPath("/");
  for (; node && node->depth() != 0; node = node->parent()) {
    const std::string_view name = node->name();
    const std::size_t room = DtPath::capacity() - path.view().size();
    if (name.size() + 1 + kCut.size() > room) {
      DtPath cut(kCut);
      (void)cut.append(path.empty() ? name.substr(0, room - kCut.size()) : path.view());
      return cut;
    }
    DtPath longer("/");
    (void)longer.append(name);
    (void)longer.append(path.view());
    path = longer;
  }
  return path;
}

std::optional<DtProperty> DtNode::property(std::string_view name) const {
  int size = 0;
  const auto* bytes = static_cast<const std::byte*>(
      fdt_getprop_namelen(blob_, offset(), name.data(), static_cast<int>(name.size()), &size));
  if (bytes == nullptr || size < 0) return std::nullopt;
  return DtProperty({bytes, static_cast<std::size_t>(size)});
}

void DtNode::properties(std::span<const std::string_view> names, std::span<std::optional<DtProperty>> values) const {
  for (int at = fdt_first_property_offset(blob_, offset()); at >= 0; at = fdt_next_property_offset(blob_, at)) {
    int size = 0;
    const char* name = nullptr;
    const auto* bytes = static_cast<const std::byte*>(fdt_getprop_by_offset(blob_, at, &name, &size));
    if (bytes == nullptr || size < 0) continue;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (names[i] == name) values[i] = DtProperty({bytes, static_cast<std::size_t>(size)});
    }
  }
}

bool DtNode::is_compatible(std::string_view compatible) const {
  const auto list = property("compatible");
  return list && list->lists(compatible);
}

bool DtNode::is_enabled() const {
  const auto status = property("status");
  if (!status) return true;
  const auto text = status->string();
  return text && (*text == "okay" || *text == "ok");
}

bool DtNode::is_reachable() const {
  if (!is_enabled()) return false;
  for (auto above = parent(); above; above = above->parent()) {
    if (!above->is_enabled()) return false;
  }
  return true;
}

std::optional<DtNode> DtNode::parent() const {
  if (depth() == 0) return std::nullopt;
  DtNode node = *this;
  node.way_.pop_back();
  return node;
}

std::optional<DtNode> DtNode::child_at(int offset) const {
  return offset < 0 || depth() == kMaxDepth ? std::nullopt : std::optional(DtNode(*this, offset));
}

std::optional<DtNode> DtNode::child(std::string_view name) const {
  return child_at(fdt_subnode_offset_namelen(blob_, offset(), name.data(), static_cast<int>(name.size())));
}

DtNode::Children DtNode::children() const {
  return Children(*this);
}

std::optional<DtNode> DtNode::next() const {
  auto depth_there = static_cast<int>(depth());
  int offset_there = offset();
  do {
    offset_there = fdt_next_node(blob_, offset_there, &depth_there);
    if (offset_there < 0 || depth_there < 1) return std::nullopt;
  } while (static_cast<std::size_t>(depth_there) > kMaxDepth);
  DtNode above = *this;
  while (above.way_.size() > static_cast<std::size_t>(depth_there)) above.way_.pop_back();
  return above.child_at(offset_there);
}

DtNode::Children::Iterator& DtNode::Children::Iterator::operator++() {
  offset_ = fdt_next_subnode(parent_.blob_, offset_);
  return *this;
}

DtNode::Children::Iterator DtNode::Children::begin() const {
  return {parent_, parent_.depth() == kMaxDepth ? -1 : fdt_first_subnode(parent_.blob_, parent_.offset())};
}

DtNode::PropertyNames DtNode::property_names() const {
  return PropertyNames(*this);
}

DtNode::PropertyNames::Iterator DtNode::PropertyNames::begin() const {
  return {blob_, fdt_first_property_offset(blob_, node_)};
}

DtNode::PropertyNames::Iterator& DtNode::PropertyNames::Iterator::operator++() {
  offset_ = fdt_next_property_offset(blob_, offset_);
  return *this;
}

std::string_view DtNode::PropertyNames::Iterator::operator*() const {
  const char* name = nullptr;
  return fdt_getprop_by_offset(blob_, offset_, &name, nullptr) == nullptr ? std::string_view() : name;
}

std::optional<std::size_t> DeviceTree::blob_size(std::span<const std::byte> header, Refusals& refusals) {
  if (header.size() < kHeaderSize) {
    refusals.add("device tree: {} bytes are less than its header: give a DTB made by dtc", header.size());
    return std::nullopt;
  }
  const Start start = start_of(header);
  if (start.magic != FDT_MAGIC) {
    refusals.add("device tree: bad magic {:x} instead of {:x}: r2 must point to a DTB at entry", start.magic,
                 std::uint32_t{FDT_MAGIC});
    return std::nullopt;
  }
  if (!is_plausible(start)) {
    refusals.add("device tree: its header says {} bytes, which must be {} to {}: give a DTB made by dtc", start.size,
                 kHeaderSize, kMaxSize);
    return std::nullopt;
  }
  return start.size;
}

std::optional<DeviceTree> DeviceTree::open(std::span<const std::byte> blob, Refusals& refusals) {
  const auto size = blob_size(blob, refusals);
  if (!size) return std::nullopt;
  if (*size > blob.size()) {
    refusals.add("device tree: truncated, {} bytes of the {} that its header says: give the whole file", blob.size(),
                 *size);
    return std::nullopt;
  }
  const void* start = blob.data();
  if (fdt_version(start) < kOldestVersion || fdt_last_comp_version(start) > FDT_LAST_SUPPORTED_VERSION) {
    refusals.add("device tree: version {} (compatible with {}) is not 16 or 17: rebuild it with dtc",
                 fdt_version(start), fdt_last_comp_version(start));
    return std::nullopt;
  }
  // [DT 5.6]; libfdt relies on these without looking.
  if (!is_aligned(reinterpret_cast<std::uintptr_t>(start), 8) || !is_aligned(fdt_off_mem_rsvmap(start), 8) ||
      !is_aligned(fdt_off_dt_struct(start), 4)) {
    refusals.add("device tree: misaligned: it and its reservations start at multiples of 8 bytes, its structure of 4");
    return std::nullopt;
  }
  if (const int error = has_end(start) ? fdt_check_full(start, *size) : -FDT_ERR_BADSTRUCTURE; error != 0) {
    refusals.add("device tree: broken or cut short ({}): rebuild it with dtc", fdt_strerror(error));
    return std::nullopt;
  }
  return DeviceTree(start);
}

std::optional<DeviceTree> DeviceTree::open_unchecked(std::span<const std::byte> blob) {
  const void* start = blob.data();
  if (blob.size() < kHeaderSize || !is_plausible(start_of(blob)) || start_of(blob).size > blob.size() ||
      !is_aligned(reinterpret_cast<std::uintptr_t>(start), 8) || fdt_check_header(start) != 0 ||
      !is_aligned(fdt_off_dt_struct(start), 4) || !has_end(start)) {
    return std::nullopt;
  }
  return DeviceTree(start);
}

DeviceTree::DeviceTree(const void* blob) : blob_(blob) {
  for (int at = fdt_first_subnode(blob, 0); at >= 0; at = fdt_next_subnode(blob, at)) {
    if (!top_.push_back({.offset = at, .name = DtNode(root(), at).name()})) break;
  }
}

// A node with just this name, or else the first that has it before a unit address.
std::optional<DtNode> DeviceTree::child_of_root(std::string_view name) const {
  std::optional<DtNode> alike;
  for (const Top& top : top_) {
    if (top.name == name) return DtNode(root(), top.offset);
    if (!alike && DtNode::is_name(top.name, name)) alike = DtNode(root(), top.offset);
  }
  if (top_.size() < top_.capacity()) return alike;
  for (const DtNode child : root().children()) {
    if (child.name() == name) return child;
    if (!alike && child.is_named(name)) alike = child;
  }
  return alike;
}

std::size_t DeviceTree::size() const {
  return fdt_totalsize(blob_);
}

std::optional<DtNode> DeviceTree::find(std::string_view path) const {
  std::optional<DtNode> node = root();
  if (!path.starts_with('/')) {
    // libfdt answers an alias that names itself with endless recursion: followed here, once.
    const std::size_t end = std::min(path.find('/'), path.size());
    const auto aliases = child_of_root("aliases");
    const auto alias = aliases ? aliases->property(path.substr(0, end)) : std::nullopt;
    const auto target = alias ? alias->string() : std::nullopt;
    if (!target || !target->starts_with('/')) return std::nullopt;
    node = find(*target);
    path = path.substr(end);
  }
  while (node && !path.empty()) {
    path.remove_prefix(1);
    const std::size_t length = std::min(path.find('/'), path.size());
    const std::string_view name = path.substr(0, length);
    if (!name.empty()) node = node->depth() == 0 ? child_of_root(name) : node->child(name);
    path = path.substr(length);
  }
  return node;
}

std::size_t DeviceTree::reservation_count() const {
  const int count = fdt_num_mem_rsv(blob_);
  return count < 0 ? 0 : static_cast<std::size_t>(count);
}

DtRange DeviceTree::reservation(std::size_t i) const {
  DtRange range;
  CHECK(fdt_get_mem_rsv(blob_, static_cast<int>(i), &range.base, &range.size) == 0);
  return range;
}

}  // namespace cadastre
