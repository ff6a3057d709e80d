// The reasons for which a device tree or a configuration is refused: all of them, a line each, for a person.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "mm/base/format.hh"
#include "platform/dtb/fixed.hh"

namespace cadastre {

class Refusals {
 public:
  // Reasons beyond this many are counted, not kept.
  static constexpr std::size_t kCapacity = 16;
  static constexpr std::size_t kLineSize = 200;

  // One reason: the node's path or the file, what is wrong with it, and what to do. Characters that do not
  // print (the texts come from an untrusted blob) become '?'. A reason that is there already is not repeated.
  template <class... Arguments>
  void add(std::string_view format, const Arguments&... arguments) {
    std::array<char, kLineSize> line;
    keep(format_to(line, format, arguments...));
  }

  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::size_t count() const { return count_; }
  [[nodiscard]] std::string_view operator[](std::size_t i) const { return lines_[i].view(); }

  // `refused: REASON` for each.
  void print(Log& log) const;

 private:
  void keep(std::string_view line);

  InplaceVector<FixedString<kLineSize>, kCapacity> lines_;
  std::size_t count_ = 0;
};

}  // namespace cadastre
