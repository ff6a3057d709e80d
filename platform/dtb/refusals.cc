#include "platform/dtb/refusals.hh"

#include <algorithm>

namespace cadastre {

void Refusals::keep(std::string_view line) {
  std::array<char, kLineSize> buffer;
  std::ranges::transform(line, buffer.begin(), [](char c) { return c >= ' ' && c <= '~' ? c : '?'; });
  const std::string_view printable(buffer.data(), line.size());
  if (std::ranges::any_of(lines_, [&](const auto& other) { return other.view() == printable; })) return;
  ++count_;
  (void)lines_.push_back(FixedString<kLineSize>(printable));
}

void Refusals::print(Log& log) const {
  for (const auto& line : lines_) log.print("refused: {}", line.view());
  if (count_ > lines_.size()) log.print("refused: and {} more reasons", count_ - lines_.size());
}

}  // namespace cadastre
