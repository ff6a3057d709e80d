#include "hyp/guest/terminal.hh"

#include <optional>

#include "hyp/core/console.hh"
#include "hyp/core/console_input.hh"

namespace cadastre {
namespace {

class RawConsole final : public TextSink {
 public:
  void write(std::string_view text) override { console.write(text); }
};

RawConsole raw_console;

}  // namespace

Terminal terminal;

TextSink& Terminal::output_of(unsigned guest, std::string_view name) {
  if (belongs_to(guest)) return raw_console;
  std::optional<LineConsole>& lines = lines_[guest];
  if (!lines) lines.emplace(name, raw_console);
  return *lines;
}

void Terminal::attach(unsigned guest, Vpl011& uart) const {
  if (belongs_to(guest)) console_input.attach(&uart);
}

void Terminal::detach(unsigned guest) const {
  if (belongs_to(guest)) console_input.attach(nullptr);
}

void Terminal::finish_line(unsigned guest) {
  if (auto& lines = lines_[guest]) lines->finish();
}

}  // namespace cadastre
