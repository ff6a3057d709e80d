// What happens when an invariant of the hypervisor is broken: a report, and the machine is switched off.
#include <cstdint>
#include <string_view>

#include "arch/armv7/cp15.hh"
#include "arch/armv7/cpu.hh"
#include "arch/armv7/guest_frame.h"
#include "arch/armv7/image.hh"
#include "hyp/core/console.hh"
#include "hyp/core/power.hh"
#include "mm/base/check.hh"
#include "mm/base/format.hh"

namespace cadastre {
namespace {

bool is_text(std::uint32_t address) {
  return address >= reinterpret_cast<std::uintptr_t>(__image_start) &&
         address < reinterpret_cast<std::uintptr_t>(__text_end);
}

template <class... Arguments>
void say(std::string_view format, const Arguments&... arguments) {
  char line[200];
  console.write_line_unlocked(format_to(line, format, arguments...));
}

// Frame records are {saved r11, lr} at [r11] (-fno-omit-frame-pointer). Stops at whatever is not a rising
// chain.
void backtrace(std::uint32_t frame_pointer) {
  constexpr unsigned kMostFrames = 24;
  const std::uint32_t lowest = frame_pointer;
  constexpr std::uint32_t kStackAtMost = 64 * 1024;
  for (unsigned i = 0; i < kMostFrames && frame_pointer != 0 && frame_pointer % 4 == 0; ++i) {
    if (frame_pointer < lowest || frame_pointer - lowest > kStackAtMost) return;
    const auto* record = reinterpret_cast<const std::uint32_t*>(frame_pointer);
    if (!is_text(record[1])) return;
    say("  #{} {:x}", i, record[1]);
    if (record[0] <= frame_pointer) return;
    frame_pointer = record[0];
  }
}

// A panic inside of a panic says no more.
[[noreturn]] void panic_ends() {
  say("panic: backtrace ends; llvm-symbolizer -e cadastre.elf names the addresses");
  power_off();
}

bool panicking = false;

}  // namespace

void check_failed(const char* condition, const char* file, int line) {
  if (panicking) power_off();
  panicking = true;
  say("panic: CHECK failed: {} at {}:{}", condition, file, line);
  backtrace(reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0)));
  panic_ends();
}

void hyp_exception(const HypFrame* frame, std::uint32_t vector) {
  if (panicking) power_off();
  panicking = true;
  constexpr std::uint32_t kPrefetchAbort = 0x0c;
  const std::string_view what = vector == 0x04             ? "undefined instruction"
                                : vector == 0x08           ? "HVC"
                                : vector == kPrefetchAbort ? "prefetch abort"
                                                           : "data abort";
  say("panic: {} in HYP mode at {:x}, lr {:x}, cpsr {:x}", what, frame->pc, frame->lr, frame->cpsr);
  say("  HSR {:x} HDFAR {:x} HIFAR {:x}", arch::HSR::read(), arch::HDFAR::read(), arch::HIFAR::read());
  for (unsigned i = 0; i < 12; i += 4) {
    say("  r{} {:x} {:x} {:x} {:x}", i, frame->r[i], frame->r[i + 1], frame->r[i + 2], frame->r[i + 3]);
  }
  backtrace(frame->r[11]);
  panic_ends();
}

}  // namespace cadastre
