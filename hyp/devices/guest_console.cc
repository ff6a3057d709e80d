#include "hyp/devices/guest_console.hh"

#include <algorithm>

namespace cadastre {

LineConsole::LineConsole(std::string_view name, TextSink& output) : output_(output) {
  name = name.substr(0, kMaxName);
  line_[0] = '[';
  std::ranges::copy(name, line_.begin() + 1);
  line_[name.size() + 1] = ']';
  line_[name.size() + 2] = ' ';
  prefix_ = name.size() + 3;
  size_ = prefix_;
}

void LineConsole::write(std::string_view text) {
  for (const char c : text) put(c);
}

void LineConsole::finish() {
  if (size_ != prefix_) flush();
}

void LineConsole::put(char c) {
  if (c == '\r') return;
  if (c == '\n') {
    flush();
    return;
  }
  if (size_ == kLineSize - 1) flush();
  line_[size_++] = c;
}

void LineConsole::flush() {
  line_[size_] = '\n';
  output_.write({line_.data(), size_ + 1});
  size_ = prefix_;
}

}  // namespace cadastre
