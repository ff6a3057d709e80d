// One Frame a page of RAM, and the way from a frame number to its Frame and back.
//
//   pfn   27      18 17     10 9          0
//        [  GiB    ][ section ][ in section ]
//            |           |           |
//   roots_[GiB] -> leaf  |           |         a GiB without RAM shares the one absent leaf
//   leaves_[leaf][section] -> number |         a section without RAM has none
//   frames_[number * 1024 + in section]        so only sections with RAM cost frames
//
// RAM up to the first hole, which is most or all of it, is found without the tables: by a subtraction.
// A section is 4 MiB: one block of the highest order, two pageblocks, in one zone. Inside the allocators
// frames go by their index, in which a block's buddy is found exactly as in frame numbers, because sections
// are whole blocks.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mm/base/address.hh"
#include "mm/base/check.hh"
#include "mm/base/error.hh"
#include "mm/base/node.hh"
#include "mm/base/relaxed.hh"
#include "mm/boot/memblock.hh"
#include "mm/frames/frame_state.hh"

namespace cadastre {

inline constexpr unsigned kMaxOrder = 10;
inline constexpr unsigned kPageblockOrder = kBlockShift - kPageShift;
inline constexpr std::uint32_t kFramesPerSection = 1U << kMaxOrder;
static_assert(kPageblockOrder == 9 && kPagesPerBlock * 2 == kFramesPerSection);

using FrameIndex = std::uint32_t;
inline constexpr FrameIndex kNoFrame = ~FrameIndex{0};

// What a pageblock is for. The allocator groups what can be moved, so that big blocks can form again.
enum class MigrateType : std::uint8_t {
  kUnmovable,
  kMovable,
  kReclaimable,
  kCma,      // only for movable pages: a device may want it back
  kIsolate,  // for nobody: somebody is collecting these pages
};
inline constexpr unsigned kMigrateTypes = 5;

[[nodiscard]] std::string_view to_string(MigrateType type);

// State, order, owner and reference count of a block, in one word that is read and written at once.
struct FrameWord {
  FrameState state = FrameState::kReserved;
  unsigned order = 0;
  OwnerId owner = kHypervisor;
  unsigned references = 0;

  [[nodiscard]] constexpr std::uint32_t packed() const {
    return static_cast<std::uint32_t>(state) | order << 4U | std::uint32_t{owner} << 8U | references << 16U;
  }
  [[nodiscard]] static constexpr FrameWord unpacked(std::uint32_t word) {
    return {.state = static_cast<FrameState>(word & 0xfU),
            .order = word >> 4U & 0xfU,
            .owner = static_cast<OwnerId>(word >> 8U),
            .references = word >> 16U};
  }
};

// Every write of a block's word says what becomes of the block, and debug builds hold it against the table of states:
//
//   set_word      it stays a block, in the same state or one that may follow
//   take_off      a free block leaves its list: it is in somebody's hand, or a part of a larger one
//   put_down      ... and is a block again: in the state `was` that it had, or one that may follow
//   pick_up       what was allocated is in somebody's hand, on its way to the free list of `to`
//   absorb        what was allocated is a part of the block before it now
//
// All zero is a frame that is not the first of any block, or whose block is in somebody's hand.
class Frame {
 public:
  static constexpr unsigned kMaxReferences = 0xffff;
  static constexpr Gfn kNoGfn{~std::uint32_t{0}};

  [[nodiscard]] std::uint32_t packed() const { return relaxed_load(word_); }
  [[nodiscard]] FrameWord word() const { return FrameWord::unpacked(packed()); }
  void set_packed(std::uint32_t word) {
    expect([&] { return may_write(state(), FrameWord::unpacked(word).state); });
    relaxed_store(word_, word);
  }
  void set_word(FrameWord word) { set_packed(word.packed()); }
  void take_off() {
    expect([&] { return is_free(state()); });
    relaxed_store(word_, 0U);
  }
  void put_down(FrameState was, std::uint32_t word) {
    expect([&] { return may_write(packed() == 0 ? was : state(), FrameWord::unpacked(word).state); });
    relaxed_store(word_, word);
  }
  void put_down(FrameState was, FrameWord word) { put_down(was, word.packed()); }
  void pick_up([[maybe_unused]] FrameState to) {
    expect([&] { return may_become(state(), to) && is_free(to); });
    relaxed_store(word_, 0U);
  }
  void absorb() {
    expect([&] { return packed() == 0 || is_allocated(state()); });
    relaxed_store(word_, 0U);
    set_value(0);
  }
  // For tests: whatever it was before.
  void force(FrameWord word) { relaxed_store(word_, word.packed()); }
  [[nodiscard]] FrameState state() const { return word().state; }
  [[nodiscard]] unsigned order() const { return word().order; }
  [[nodiscard]] OwnerId owner() const { return word().owner; }
  [[nodiscard]] unsigned references() const { return word().references; }

  // One word whose meaning goes with the state: the guest frame that a guest's block backs, the list that a
  // free block is on, what a slab needs, whether a reserved frame is for a CMA area.
  [[nodiscard]] std::uint32_t value() const { return relaxed_load(value_); }
  void set_value(std::uint32_t value) { relaxed_store(value_, value); }
  [[nodiscard]] Gfn gfn() const { return Gfn(value()); }
  // For atomic updates of `value`.
  [[nodiscard]] std::uint32_t& value_field() { return value_; }

  // Bytes for whoever a block belongs to, in each of its frames but the first.
  static constexpr std::uint32_t kSpareBytes = 12;
  [[nodiscard]] std::uint8_t* spare() { return reinterpret_cast<std::uint8_t*>(this); }

  // Links of the list that the block is on: free lists while it is free, its owner's otherwise.
  FrameIndex next = 0;
  FrameIndex previous = 0;

 private:
  template <class Condition>
  static void expect([[maybe_unused]] Condition condition) {
#ifndef NDEBUG
    CHECK(condition());
#endif
  }

  std::uint32_t value_ = 0;
  std::uint32_t word_ = 0;
};
static_assert(sizeof(Frame) == Frame::kSpareBytes + sizeof(std::uint32_t));  // all but the word, which is the last

// What is the same for 4 MiB of frames.
struct Section {
  std::uint32_t first_pfn = 0;
  std::uint8_t zone = 0;
  std::array<std::uint8_t, 2> pageblocks{};  // MigrateType, and kIsolated
  NodeId nid = 0;
};
static_assert(sizeof(Section) == 8);

class FrameTable {
 public:
  constexpr FrameTable() = default;
  FrameTable(const FrameTable&) = delete;
  FrameTable& operator=(const FrameTable&) = delete;

  // Makes a frame for each page of `memblock`'s memory, NOMAP included, in memory taken from `memblock`. The
  // boot CPU, once; kNoMemory when there is no room below `current_limit`, kOutOfRange for memory above 40
  // bits or more than 256 GiB.
  template <Machine M>
  [[nodiscard]] Result<> init(M& machine, Memblock& memblock) {
    const Result<Layout> layout = measure(memblock);
    if (!layout) return std::unexpected(layout.error());
    const Result<std::byte*> memory = memblock.alloc_zeroed(machine, layout->bytes(), 64);
    if (!memory) return std::unexpected(memory.error());
    lay_out(*layout, *memory, memblock);
    return {};
  }

  [[nodiscard]] FrameIndex count() const { return section_count_ * kFramesPerSection; }
  [[nodiscard]] std::span<Section> sections() { return {sections_, section_count_}; }
  // Metadata in bytes, frames included.
  [[nodiscard]] std::size_t metadata_size() const { return metadata_size_; }

  // kNoFrame where there is no RAM.
  [[nodiscard]] FrameIndex index_of(Pfn pfn) const {
    const FrameIndex index = contiguous_index_of(pfn);
    return index != kNoFrame ? index : look_up(pfn);
  }
  // kNoFrame beyond the first hole as well.
  [[nodiscard]] FrameIndex contiguous_index_of(Pfn pfn) const {
    const std::uint32_t offset = pfn.value() - first_pfn_;
    return offset < contiguous_ ? offset : kNoFrame;
  }
  [[nodiscard]] Pfn pfn_of(FrameIndex index) const {
    if (index < contiguous_) [[likely]]
      return Pfn(first_pfn_ + index);
    return Pfn(sections_[index / kFramesPerSection].first_pfn + index % kFramesPerSection);
  }
  [[nodiscard]] FrameIndex index_of(const Frame& frame) const { return static_cast<FrameIndex>(&frame - frames_); }

  [[nodiscard]] Frame& operator[](FrameIndex index) { return frames_[index]; }
  [[nodiscard]] const Frame& operator[](FrameIndex index) const { return frames_[index]; }
  // The frame of a page of RAM; nullptr where there is none.
  [[nodiscard]] Frame* find(Pfn pfn) {
    const FrameIndex index = index_of(pfn);
    return index == kNoFrame ? nullptr : &frames_[index];
  }
  // The first frame of the block that `index` is in: itself when it is in none.
  [[nodiscard]] FrameIndex head_of(FrameIndex index) const;

  [[nodiscard]] Section& section_of(FrameIndex index) { return sections_[index / kFramesPerSection]; }
  [[nodiscard]] const Section& section_of(FrameIndex index) const { return sections_[index / kFramesPerSection]; }
  // What a pageblock is for, and whether somebody is collecting it meanwhile. Written under the zone's lock.
  [[nodiscard]] std::uint8_t pageblock(FrameIndex index) const {
    return relaxed_load(section_of(index).pageblocks[index / kPagesPerBlock % 2]);
  }
  [[nodiscard]] MigrateType pageblock_type(FrameIndex index) const {
    return static_cast<MigrateType>(pageblock(index) & ~kIsolated);
  }
  [[nodiscard]] bool is_isolated(FrameIndex index) const { return (pageblock(index) & kIsolated) != 0; }
  void set_pageblock(FrameIndex index, MigrateType type, bool isolated = false);
  void set_zone(Section& section, std::uint8_t zone);
  // Which of a CPU's page lists takes single pages of this pageblock: one for each zone and ordinary type; the
  // last one, which takes none, for all that is CMA's or isolated.
  [[nodiscard]] unsigned page_list(FrameIndex index) const { return relaxed_load(page_lists_[index / kPagesPerBlock]); }
  static constexpr unsigned kListedTypes = 3;  // kUnmovable, kMovable, kReclaimable
  static constexpr unsigned kNoPageList = kMaxNodes * 3 * kListedTypes;
  static constexpr std::uint8_t kIsolated = 0x80;

 private:
  static constexpr unsigned kPfnBits = 28;  // 40-bit addresses [ARMv7 B3.6]
  static constexpr unsigned kRootShift = 18;
  static constexpr std::uint32_t kLeafSize = 1U << (kRootShift - kMaxOrder);
  static constexpr std::uint32_t kMaxSections = 1U << 16U;  // 256 GiB
  static constexpr std::uint32_t kAbsent = kMaxSections;

  struct Layout {
    std::uint32_t sections = 0;
    std::uint32_t leaves = 1;  // the first is the absent one
    [[nodiscard]] std::size_t bytes() const {
      return sections * (kFramesPerSection * sizeof(Frame) + sizeof(Section) + 2) +
             leaves * kLeafSize * sizeof(std::uint32_t);
    }
  };
  template <class Visit>
  static void for_each_section(const Memblock& memblock, Visit visit);
  [[nodiscard]] static Result<Layout> measure(const Memblock& memblock);
  void lay_out(const Layout& layout, std::byte* memory, const Memblock& memblock);
  [[nodiscard]] FrameIndex look_up(Pfn pfn) const;

  std::uint32_t first_pfn_ = 0;
  std::uint32_t contiguous_ = 0;  // frames before the first hole
  Frame* frames_ = nullptr;
  std::uint8_t* page_lists_ = nullptr;  // by pageblock
  Section* sections_ = nullptr;
  std::uint32_t* leaves_ = nullptr;
  std::uint32_t section_count_ = 0;
  std::size_t metadata_size_ = 0;
  std::array<std::uint16_t, 1U << (kPfnBits - kRootShift)> roots_{};
};

}  // namespace cadastre
