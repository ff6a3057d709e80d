// A guest's cache maintenance by set and way (DCISW, DCCSW, DCCISW), trapped (HCR.TSW) [ARMv7 B2.2.6, B4.2.1].
//
// The operation names a line of one CPU's cache, which a guest that may run anywhere cannot mean: it means all lines, one
// operation after the other. So one operation of a round becomes a clean and invalidate of all that the guest has mapped,
// and the others nothing:
//
//     set 0 way 0    set 0 way 1    set 0 way 2   ...   set 0 way 0    set 0 way 1 ...
//     |- a round of all sets and ways ------------------|- the next one
//     clean all      nothing        nothing             clean all      nothing
//
// The one is the first that came of its cache level, ever: every round of that level passes it, whichever way it goes. What
// was written before a round began is clean when it has passed it.
//
// The clean is done in steps: until it is finished, the instruction stays where it is and traps again.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace cadastre {

class SetWayMaintenance {
 public:
  enum class Step : std::uint8_t {
    kDone,   // on behind the instruction
    kAgain,  // let it trap again
  };

  // One trap, with the operation's register: set and way above, the level less one in bits 3 to 1. clean(from) cleans some
  // of the guest's memory from there on and returns where to go on, nothing at the end.
  template <class Clean>
  [[nodiscard]] Step trap(std::uint32_t operation, Clean&& clean) {
    if (!progress_) {
      std::optional<std::uint32_t>& first = first_[operation >> 1 & 7];
      if (first && *first != operation) return Step::kDone;
      first = operation;
      progress_ = 0;
    }
    progress_ = clean(*progress_);
    return progress_ ? Step::kAgain : Step::kDone;
  }

 private:
  std::array<std::optional<std::uint32_t>, 8> first_{};  // by level
  std::optional<std::uint64_t> progress_;                // of a clean that has begun
};

}  // namespace cadastre
