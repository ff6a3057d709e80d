// A naive memblock: what each page of a small address space is.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "mm/memblock.hh"

namespace cadastre {

class MemblockModel {
 public:
  struct Page {
    bool memory = false;
    MemblockFlags flags = MemblockFlags::kNone;
    NodeId nid = kNoNode;
    bool reserved = false;
    NodeId reserved_nid = kNoNode;
  };

  explicit MemblockModel(std::size_t pages) : pages_(pages) {}

  std::vector<Page>& pages() { return pages_; }

  // The ranges that one of the lists must hold: neighbours that are alike are one.
  std::vector<MemblockRegion> regions(bool reserved) const {
    std::vector<MemblockRegion> all;
    for (std::size_t i = 0; i < pages_.size(); ++i) {
      const Page& page = pages_[i];
      if (!(reserved ? page.reserved : page.memory)) continue;
      const MemblockRegion one{.base = PhysAddr(i * kPageSize),
                               .size = kPageSize,
                               .flags = reserved ? MemblockFlags::kNone : page.flags,
                               .nid = reserved ? page.reserved_nid : page.nid};
      if (!all.empty() && all.back().end() == one.base && all.back().flags == one.flags && all.back().nid == one.nid) {
        all.back().size += kPageSize;
      } else {
        all.push_back(one);
      }
    }
    return all;
  }

  // Where an allocation of whole pages must come from.
  std::optional<std::size_t> find(std::size_t count, std::size_t alignment, std::size_t start, std::size_t end,
                                  NodeId nid, bool bottom_up) const {
    std::optional<std::size_t> best;
    for (std::size_t at = 0; at + count <= pages_.size(); ++at) {
      if (at % alignment != 0 || at < std::max<std::size_t>(start, 1) || at + count > end) continue;
      if (!is_free(at, count, nid)) continue;
      if (!best || !bottom_up) best = at;
    }
    return best;
  }

 private:
  // A free range never spans two ranges of `memory`.
  bool is_free(std::size_t at, std::size_t count, NodeId nid) const {
    for (std::size_t i = at; i < at + count; ++i) {
      const Page& page = pages_[i];
      if (!page.memory || page.reserved || has(page.flags, MemblockFlags::kNomap)) return false;
      if (nid != kNoNode && page.nid != nid) return false;
      if (page.nid != pages_[at].nid || page.flags != pages_[at].flags) return false;
    }
    return true;
  }

  std::vector<Page> pages_;
};

}  // namespace cadastre
