#include "platform/dtb/refusals.hh"

#include <algorithm>

namespace cadastre {

void Refusals::keep(std::string_view line) {
  ++count_;
  std::array<char, kLineSize> printable;
  std::ranges::transform(line, printable.begin(), [](char c) { return c >= ' ' && c <= '~' ? c : '?'; });
  (void)lines_.push_back(FixedString<kLineSize>({printable.data(), line.size()}));
}

void Refusals::print(Log& log) const {
  for (const auto& line : lines_) log.print("refused: {}", line.view());
  if (count_ > lines_.size()) log.print("refused: and {} more reasons", count_ - lines_.size());
}

}  // namespace cadastre
