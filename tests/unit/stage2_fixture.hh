// A guest's stage 2 over tables that log what is done to them, and a zone whose frames are only numbers.
#pragma once

#include <cstdint>
#include <map>

#include "mm/translation/stage2.hh"
#include "tests/model/stage2_faults.hh"
#include "tests/unit/table_environment.hh"
#include "tests/unit/test.hh"

namespace cadastre {

inline constexpr std::uint64_t kGiB = std::uint64_t{1} << 30U;
inline constexpr IpaAddr kRam{0x4000'0000};

// Frames of a zone that hands out pages from below and blocks from above; a shared page has a count.
class GuestFrames : public LoggingTables {
 public:
  Result<PhysAddr> allocate_frame(IpaAddr ipa, unsigned level) {
    REQUIRE(ipa.is_aligned(level_size(level)));
    if (level < largest_ || frames_left_ == 0) return std::unexpected(Error::kNoMemory);
    --frames_left_;
    PhysAddr& next = level == kLastLevel ? next_page_ : next_block_;
    next = next.aligned_up(level_size(level));
    const PhysAddr frame = next;
    next += level_size(level);
    REQUIRE(owned_.emplace(frame.value(), level).second);
    return frame;
  }
  void free_frame(PhysAddr frame, unsigned level) {
    const auto found = owned_.find(frame.value());
    REQUIRE(found != owned_.end());
    REQUIRE(found->second == level);
    owned_.erase(found);
    ++frames_left_;
  }
  Result<PhysAddr> private_copy(IpaAddr ipa, PhysAddr frame) {
    unsigned& users = shared_[frame.value()];
    REQUIRE(users > 0);
    if (users == 1) return frame;
    const Result<PhysAddr> copy = allocate_frame(ipa, kLastLevel);
    if (copy) copies_[copy->value()] = frame;
    return copy;
  }
  void drop_shared(PhysAddr frame) {
    CHECK(invalidations() != 0);
    --shared_[frame.value()];
  }

  unsigned largest_ = 1;
  unsigned frames_left_ = ~0U;
  std::map<std::uint64_t, unsigned> owned_;   // frame -> level
  std::map<std::uint64_t, unsigned> shared_;  // frame -> users
  std::map<std::uint64_t, PhysAddr> copies_;  // frame -> what it is a copy of

 private:
  PhysAddr next_page_{0x8000'0000};
  PhysAddr next_block_{0x1'0000'0000};
};

struct Stage2Fixture {
  GuestFrames environment;
  Stage2<GuestFrames> stage2{environment, LoggingTables::kRoot, 1000};
  RamRange ram{kRam, kGiB, kLastLevel};

  FaultAnswer fault(std::uint64_t offset, Access access) {
    const auto answer = serve_fault(stage2, environment, kRam + offset, access, ram);
    REQUIRE(answer);
    return *answer;
  }
  auto at(std::uint64_t offset) { return stage2.table().query(kRam + offset).value_or(Stage2<GuestFrames>::Mapping{}); }
};

}  // namespace cadastre
