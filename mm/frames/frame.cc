#include "mm/frames/frame.hh"

#include <memory>

namespace cadastre {

std::string_view to_string(MigrateType type) {
  switch (type) {
    case MigrateType::kUnmovable:
      return "Unmovable";
    case MigrateType::kMovable:
      return "Movable";
    case MigrateType::kReclaimable:
      return "Reclaimable";
    case MigrateType::kCma:
      return "CMA";
    case MigrateType::kIsolate:
      return "Isolate";
  }
  return "corrupt";
}

// Each section that holds RAM, once, upwards. The node is that of the section's first RAM.
template <class Visit>
void FrameTable::for_each_section(const Memblock& memblock, Visit visit) {
  std::uint64_t next = 0;
  constexpr unsigned kSectionShift = kMaxOrder + kPageShift;
  for (const MemblockRegion& region : memblock.memory().all()) {
    std::uint64_t section = region.base.value() >> kSectionShift;
    if (section < next) section = next;
    const std::uint64_t end = ((region.end().value() - 1) >> kSectionShift) + 1;
    for (; section < end; ++section) visit(section, region.nid);
    if (end > next) next = end;
  }
}

Result<FrameTable::Layout> FrameTable::measure(const Memblock& memblock) {
  // Before the walk, which would take long: [ARMv7 B3.6] 40 bits.
  if (memblock.end_of_memory().value() > std::uint64_t{1} << (kPfnBits + kPageShift)) {
    return std::unexpected(Error::kOutOfRange);
  }
  Layout layout;
  std::uint64_t last_root = ~std::uint64_t{0};
  for_each_section(memblock, [&](std::uint64_t section, NodeId) {
    ++layout.sections;
    if (const std::uint64_t root = section / kLeafSize; root != last_root) {
      last_root = root;
      ++layout.leaves;
    }
  });
  if (layout.sections == 0 || layout.sections > kMaxSections) return std::unexpected(Error::kOutOfRange);
  return layout;
}

void FrameTable::lay_out(const Layout& layout, std::byte* memory, const Memblock& memblock) {
  // All zero is what a Frame and a Section start as, so the objects begin their life as they are.
  frames_ = reinterpret_cast<Frame*>(memory);
  sections_ = reinterpret_cast<Section*>(frames_ + std::size_t{layout.sections} * kFramesPerSection);
  leaves_ = reinterpret_cast<std::uint32_t*>(sections_ + layout.sections);
  page_lists_ = reinterpret_cast<std::uint8_t*>(leaves_ + std::size_t{layout.leaves} * kLeafSize);
  metadata_size_ = layout.bytes();
  std::uninitialized_fill_n(leaves_, layout.leaves * kLeafSize, kAbsent);
  std::uint16_t leaf = 0;
  for_each_section(memblock, [&](std::uint64_t section, NodeId nid) {
    std::uint16_t& root = roots_[static_cast<std::size_t>(section / kLeafSize)];
    if (root == 0) root = ++leaf;
    leaves_[root * kLeafSize + static_cast<std::size_t>(section % kLeafSize)] = section_count_;
    sections_[section_count_] = {.first_pfn = static_cast<std::uint32_t>(section * kFramesPerSection),
                                 .pageblocks = {static_cast<std::uint8_t>(MigrateType::kMovable),
                                                static_cast<std::uint8_t>(MigrateType::kMovable)},
                                 .nid = nid == kNoNode ? NodeId{0} : nid};
    set_zone(sections_[section_count_], 0);
    ++section_count_;
  });
  first_pfn_ = sections_[0].first_pfn;
  std::uint32_t together = 1;
  while (together < section_count_ && sections_[together].first_pfn == first_pfn_ + together * kFramesPerSection) {
    ++together;
  }
  contiguous_ = together * kFramesPerSection;
}

FrameIndex FrameTable::look_up(Pfn pfn) const {
  const std::uint32_t number = pfn.value();
  if (number >> kPfnBits != 0 || leaves_ == nullptr) return kNoFrame;
  const std::uint32_t leaf = roots_[number >> kRootShift];
  const std::uint32_t section = leaves_[leaf * kLeafSize + (number >> kMaxOrder) % kLeafSize];
  return section == kAbsent ? kNoFrame : section * kFramesPerSection + number % kFramesPerSection;
}

void FrameTable::set_zone(Section& section, std::uint8_t zone) {
  section.zone = zone;
  const auto first = static_cast<FrameIndex>(&section - sections_) * kFramesPerSection;
  for (const FrameIndex index : {first, first + kPagesPerBlock}) {
    set_pageblock(index, pageblock_type(index), is_isolated(index));
  }
}

void FrameTable::set_pageblock(FrameIndex index, MigrateType type, bool isolated) {
  Section& section = section_of(index);
  const auto number = static_cast<unsigned>(type);
  relaxed_store(section.pageblocks[index / kPagesPerBlock % 2],
                static_cast<std::uint8_t>(number | (isolated ? kIsolated : 0U)));
  const unsigned list = number < kListedTypes && !isolated ? section.zone * kListedTypes + number : kNoPageList;
  relaxed_store(page_lists_[index / kPagesPerBlock], static_cast<std::uint8_t>(list));
}

FrameIndex FrameTable::head_of(FrameIndex index) const {
  for (unsigned order = 0; order <= kMaxOrder; ++order) {
    const FrameIndex head = index & ~((1U << order) - 1);
    const FrameWord word = frames_[head].word();
    if (word.state != FrameState::kReserved) return word.order >= order ? head : index;
  }
  return index;
}

}  // namespace cadastre
