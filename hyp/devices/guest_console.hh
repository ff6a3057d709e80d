// A guest's output a line at a time: `[name] text`, each in one piece, so that lines of several guests and of
// the hypervisor do not mix. For an interactive console the guest's UART writes to the host's directly.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "hyp/devices/text_sink.hh"

namespace cadastre {

// Used by one UART, under its lock.
class LineConsole final : public TextSink {
 public:
  // Longer names are cut. `output` gets whole lines with their newline; it outlives this.
  LineConsole(std::string_view name, TextSink& output);

  // Carriage returns are dropped; a line longer than the buffer goes out in pieces, each a line of its own.
  void write(std::string_view text) override;
  // Ends a line that the guest has not: at power-off.
  void finish();

 private:
  static constexpr std::size_t kMaxName = 32;
  static constexpr std::size_t kLineSize = 256;  // prefix and newline included

  void put(char c);
  void flush();

  TextSink& output_;
  std::array<char, kLineSize> line_{};
  std::size_t prefix_ = 0;  // `[name] `
  std::size_t size_ = 0;    // of the line so far, prefix included
};

}  // namespace cadastre
