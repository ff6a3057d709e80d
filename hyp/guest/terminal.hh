// Who has the machine's terminal. Interactive, the first guest has it to itself: its bytes go out as they are, and what is
// typed goes in. All others, and all guests in batch mode, write whole lines that begin with their names.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "hyp/config/plan.hh"
#include "hyp/devices/guest_console.hh"
#include "hyp/devices/text_sink.hh"
#include "hyp/devices/vpl011.hh"

namespace cadastre {

class Terminal {
 public:
  // Before there is any guest. `lines_only`: nobody has the terminal.
  void set_lines_only(bool lines_only) { lines_only_ = lines_only; }

  // Of the guest with this number, from 0 on.
  [[nodiscard]] bool belongs_to(unsigned guest) const { return !lines_only_ && guest == 0; }
  // Where its output goes. `name` outlives the terminal.
  [[nodiscard]] TextSink& output_of(unsigned guest, std::string_view name);

  // What is typed goes to this guest's UART, if the terminal is its, until it is detached.
  void attach(unsigned guest, Vpl011& uart) const;
  void detach(unsigned guest) const;
  // Ends a line that the guest has not.
  void finish_line(unsigned guest);

 private:
  bool lines_only_ = false;
  std::array<std::optional<LineConsole>, kMaxGuests> lines_;
};

extern Terminal terminal;

}  // namespace cadastre
