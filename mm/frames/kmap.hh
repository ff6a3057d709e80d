// Which of a CPU's windows onto high memory are in use: a stack. Mappings nest, so the newest goes first, and a page that
// is still mapped when its user is done is found at once.
#pragma once

#include "mm/base/error.hh"

namespace cadastre {

class KmapStack {
 public:
  static constexpr unsigned kWindows = 16;  // of each CPU

  // The window for the next mapping. kLimit: they nest too deep.
  [[nodiscard]] constexpr Result<unsigned> push() {
    if (depth_ == kWindows) return std::unexpected(Error::kLimit);
    return depth_++;
  }
  // kCorrupt, and nothing changes, unless `window` is the newest in use.
  [[nodiscard]] constexpr Result<> pop(unsigned window) {
    if (depth_ == 0 || window != depth_ - 1) return std::unexpected(Error::kCorrupt);
    --depth_;
    return {};
  }
  [[nodiscard]] constexpr unsigned depth() const { return depth_; }

 private:
  unsigned depth_ = 0;
};

}  // namespace cadastre
