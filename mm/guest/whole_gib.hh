// A GiB of frames for one mapping of a guest that is populated before it runs: more than the buddy's largest block, so a range is
// isolated, and taken block by block. In steps of less than 40,000 instructions.
//
//   choose --> isolate --> take and scrub --> unisolate --> done
//      ^          |              |                |
//      |          +---- undo <---+ one is in use  |
//      +------------------- the next one down ----+
#pragma once

#include <cstdint>

#include "mm/base/address.hh"
#include "mm/base/check.hh"
#include "mm/frames/ownership.hh"
#include "mm/frames/page_allocator.hh"
#include "mm/translation/descriptor.hh"

namespace cadastre {

enum class GibProgress : std::uint8_t {
  kMore,  // call again
  kDone,  // it is `first()`, given to the guest in blocks of 2 MiB, scrubbed
  kNone,  // there is no aligned GiB that is free
};

template <class Operations, Machine M>
class WholeGib {
 public:
  // For the guest `number`, at `gfn`; it comes out of what is promised to it, if anything is. `operations` scrubs
  // (GuestMemoryOperations).
  WholeGib(PageAllocator<M>& pages, Ownership& ownership, Operations& operations, OwnerId number, Gfn gfn,
           Booking* booking)
      : pages_(pages), ownership_(ownership), operations_(operations), number_(number), gfn_(gfn), booking_(booking) {}
  WholeGib(const WholeGib&) = delete;
  WholeGib& operator=(const WholeGib&) = delete;
  // What was not kept goes back.
  ~WholeGib() {
    while (taken_ != 0) free_last();
    pages_.unisolate(first_, first_ + isolated_);
  }

  [[nodiscard]] Pfn first() const { return first_; }
  // After kDone: it is in the guest's tables.
  void keep() { taken_ = 0; }

  [[nodiscard]] GibProgress step() {
    switch (stage_) {
      case Stage::kChoose:
        return choose();
      case Stage::kIsolate:
        isolate();
        break;
      case Stage::kTake:
        take();
        break;
      case Stage::kUndo:
        undo();
        break;
      case Stage::kUnisolate:
        return unisolate();
    }
    return GibProgress::kMore;
  }

 private:
  enum class Stage : std::uint8_t { kChoose, kIsolate, kTake, kUndo, kUnisolate };
  static constexpr std::uint32_t kPages = 1U << 18U;
  static constexpr std::uint32_t kIsolatePages = 64 * kPagesPerBlock;
  static constexpr std::uint32_t kScrubPages = 64;
  static constexpr unsigned kBlocksPerUndo = 16;

  // From above: what 32-bit masters do not reach is the guests' first.
  [[nodiscard]] GibProgress choose() {
    if (gib_ == 0) return GibProgress::kNone;
    first_ = Pfn(--gib_ * kPages);
    if (pages_.may_be_emptied(first_, first_ + kPages)) stage_ = Stage::kIsolate;
    return GibProgress::kMore;
  }
  void isolate() {
    if (!pages_.isolate(first_ + isolated_, first_ + isolated_ + kIsolatePages, booking_)) {
      stage_ = Stage::kUnisolate;
      return;
    }
    isolated_ += kIsolatePages;
    if (isolated_ != kPages) return;
    pages_.drain_all(pages_.machine().cpu());  // with the pageblocks isolated: what is freed meanwhile goes on no list
    stage_ = Stage::kTake;
  }
  void take() {
    if (scrubbed_ == 0) {
      if (!pages_.take_isolated_block(pages_.machine().cpu(), first_ + taken_, booking_)) {
        stage_ = Stage::kUndo;
        return;
      }
      if (booking_ != nullptr) pages_.charge(*booking_, Share::kRam, kPagesPerBlock);
      CHECK(ownership_.give(first_ + taken_, number_, gfn_ + taken_));
      taken_ += kPagesPerBlock;
    }
    operations_.scrub(first_ + (taken_ - kPagesPerBlock) + scrubbed_, kScrubPages);
    scrubbed_ = (scrubbed_ + kScrubPages) % kPagesPerBlock;
    if (scrubbed_ == 0 && taken_ == kPages) stage_ = Stage::kUnisolate;
  }
  void undo() {
    for (unsigned i = 0; i < kBlocksPerUndo && taken_ != 0; ++i) free_last();
    if (taken_ == 0) stage_ = Stage::kUnisolate;
  }
  [[nodiscard]] GibProgress unisolate() {
    if (isolated_ != 0) {
      isolated_ -= kIsolatePages;
      pages_.unisolate(first_ + isolated_, first_ + isolated_ + kIsolatePages);
      return GibProgress::kMore;
    }
    if (taken_ == kPages) return GibProgress::kDone;
    stage_ = Stage::kChoose;
    return GibProgress::kMore;
  }
  // No guest has written to it.
  void free_last() {
    taken_ -= kPagesPerBlock;
    CHECK(ownership_.take_back(first_ + taken_));
    if (booking_ == nullptr) return pages_.free(first_ + taken_, kPageblockOrder);
    CHECK(pages_.free_booked(*booking_, Share::kRam, first_ + taken_, kPageblockOrder));
  }

  PageAllocator<M>& pages_;
  Ownership& ownership_;
  Operations& operations_;
  const OwnerId number_;
  const Gfn gfn_;
  Booking* const booking_;
  Stage stage_ = Stage::kChoose;
  std::uint32_t gib_ = 1U << (kPhysBits - 30);  // the last one that was tried
  Pfn first_;
  std::uint32_t isolated_ = 0;  // pages from `first_` on
  std::uint32_t taken_ = 0;
  std::uint32_t scrubbed_ = 0;  // of the last one taken
};

}  // namespace cadastre
