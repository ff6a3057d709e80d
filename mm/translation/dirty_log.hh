// Which parts of a guest's RAM were written since somebody last asked: one bit a granule, in words the owner
// supplies.
//
//   first ..                                        .. end
//   | granule 0 | granule 1 | ...      a granule: a page (level 3) or a block of 2 MiB (level 2)
//   word 0: granules 0..31, lowest bit first; word 1: 32..63; ...
//
// Just the bits; what is write-protected and when is Stage2's business. The address space's lock guards it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mm/base/address.hh"
#include "mm/base/error.hh"
#include "mm/translation/descriptor.hh"

namespace cadastre {

class DirtyLog {
 public:
  static constexpr unsigned kGranulesPerWord = 32;

  [[nodiscard]] static constexpr std::size_t words_for(std::uint64_t size, unsigned level) {
    const std::uint64_t per_word = level_size(level) * kGranulesPerWord;
    return static_cast<std::size_t>((size + per_word - 1) / per_word);
  }

  // Begins with everything clean. `level` is 2 or 3, and `first` and `size` multiples of the granule
  // (kInvalid); `words` is at least words_for(size, level) long (kLimit), and the log's until `stop`. kBusy
  // if it runs already.
  [[nodiscard]] Result<> start(IpaAddr first, std::uint64_t size, unsigned level, std::span<std::uint32_t> words) {
    if (level != 2 && level != kLastLevel) return std::unexpected(Error::kInvalid);
    if (size == 0 || ((first.value() | size) & (level_size(level) - 1)) != 0) return std::unexpected(Error::kInvalid);
    if (words.size() < words_for(size, level)) return std::unexpected(Error::kLimit);
    if (is_active()) return std::unexpected(Error::kBusy);
    words_ = words.first(words_for(size, level));
    std::ranges::fill(words_, 0);
    first_ = first;
    size_ = size;
    level_ = level;
    return {};
  }
  void stop() {
    words_ = {};
    size_ = 0;
  }

  [[nodiscard]] bool is_active() const { return size_ != 0; }
  [[nodiscard]] bool covers(IpaAddr ipa) const { return ipa - first_ < size_; }
  [[nodiscard]] IpaAddr first() const { return first_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  // Of a granule.
  [[nodiscard]] unsigned level() const { return level_; }
  [[nodiscard]] std::size_t words() const { return words_.size(); }

  // Marks every granule that the range touches; what is outside of the log does not matter.
  void mark(IpaAddr ipa, std::uint64_t size) {
    const std::uint64_t from = std::max(ipa, first_) - first_;
    const std::uint64_t to = std::min(ipa + size, first_ + size_) - first_;
    if (ipa + size <= first_) return;
    for (std::uint64_t granule = from >> level_shift(level_); granule << level_shift(level_) < to; ++granule) {
      words_[static_cast<std::size_t>(granule / kGranulesPerWord)] |= 1U << granule % kGranulesPerWord;
    }
  }
  [[nodiscard]] bool is_dirty(IpaAddr ipa) const {
    if (!covers(ipa)) return false;
    const std::uint64_t granule = (ipa - first_) >> level_shift(level_);
    return (words_[static_cast<std::size_t>(granule / kGranulesPerWord)] >> granule % kGranulesPerWord & 1) != 0;
  }
  // Returns word `index` and makes its granules clean.
  [[nodiscard]] std::uint32_t take(std::size_t index) {
    const std::uint32_t word = words_[index];
    words_[index] = 0;
    return word;
  }

 private:
  IpaAddr first_;
  std::uint64_t size_ = 0;
  unsigned level_ = kLastLevel;
  std::span<std::uint32_t> words_;
};

}  // namespace cadastre
