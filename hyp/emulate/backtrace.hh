// Where a guest came from, by what is on its stack.
//
//   frame records, by compiler:     clang, -fno-omit-frame-pointer     GCC, ARM state        APCS (-mapcs-frame)
//                                   fp+4  return address               fp    return address  fp    pc of the function
//                                   fp    caller's fp                  fp-4  caller's fp     fp-4  return address
//                                                                                            fp-8  sp, fp-12 caller's fp
//
// The frame pointer is r11 in ARM state, r7 in Thumb. Code without one (Linux has unwind tables instead) leaves the words of
// the stack that may be return addresses: what they point behind is a call.
//
// Pure logic, and nothing of what a guest has in its memory is trusted: read(GuestVirtAddr, Access) is its word there, if it
// may be accessed like that.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "mm/base/access.hh"
#include "mm/base/address.hh"

namespace cadastre {

// Whether the instruction before this address, bit 0 its state, is a call: BL or BLX.
template <class Read>
[[nodiscard]] bool is_return_address(Read&& read, std::uint32_t address) {
  if ((address & 1) != 0) {
    const std::uint32_t code = address & ~1U;
    const auto halfword = [&](std::uint32_t at) -> std::uint32_t {
      const std::optional<std::uint32_t> word = read(GuestVirtAddr(at & ~3U), Access::kExecute);
      return word ? *word >> 8 * (at & 2) & 0xffff : 0;
    };
    const std::uint32_t last = halfword(code - 2);
    if ((last & 0xff87) == 0x4780) return true;  // BLX register
    // BL and BLX immediate: 11110... 11.1...., 11110... 11.0....
    return (last & 0xc000) == 0xc000 && (halfword(code - 4) & 0xf800) == 0xf000;
  }
  if ((address & 3) != 0) return false;
  const std::optional<std::uint32_t> call = read(GuestVirtAddr(address - 4), Access::kExecute);
  if (!call) return false;
  const bool never = *call >> 28 == 0xf;
  if ((*call & 0x0e00'0000) == 0x0a00'0000) return never || (*call & 0x0100'0000) != 0;  // BLX, BL immediate
  return !never && (*call & 0x0fff'fff0) == 0x012f'ff30;                                 // BLX register
}

// Calls visitor(return address) for each frame from the frame pointer on, at most `most`; the stack grows downward. Returns
// the frame pointer to go on with, if there is one.
template <class Read, class Visitor>
std::optional<std::uint32_t> follow_frames(Read&& read, std::uint32_t frame_pointer, unsigned most, Visitor&& visitor) {
  struct Layout {
    std::uint32_t return_address;
    std::uint32_t caller;
  };
  constexpr std::uint32_t kBelow = 0U - 4U;
  constexpr std::array<Layout, 3> kLayouts = {{{4, 0}, {0, kBelow}, {kBelow, 3 * kBelow}}};
  constexpr std::uint32_t kLargestFrame = 64 * 1024;
  const auto word = [&](std::uint32_t address) { return read(GuestVirtAddr(address), Access::kRead); };

  for (; most != 0 && frame_pointer % 4 == 0; --most) {
    std::optional<std::uint32_t> caller;
    for (const Layout& layout : kLayouts) {
      const auto address = word(frame_pointer + layout.return_address);
      if (!address || !is_return_address(read, *address)) continue;
      visitor(*address);
      caller = word(frame_pointer + layout.caller);
      break;
    }
    if (!caller || *caller <= frame_pointer || *caller - frame_pointer > kLargestFrame) return std::nullopt;
    frame_pointer = *caller;
  }
  return most == 0 ? std::optional(frame_pointer) : std::nullopt;
}

// Calls visitor(return address) for each word that may be one of the `words` from the stack pointer up, at most `most`. Returns
// whether all of them were looked at.
template <class Read, class Visitor>
bool scan_stack(Read&& read, std::uint32_t stack_pointer, unsigned words, unsigned most, Visitor&& visitor) {
  for (std::uint32_t at = stack_pointer & ~3U; words != 0; --words, at += 4) {
    if (most == 0) return false;
    const std::optional<std::uint32_t> word = read(GuestVirtAddr(at), Access::kRead);
    if (!word) return false;
    if (!is_return_address(read, *word)) continue;
    visitor(*word);
    --most;
  }
  return true;
}

}  // namespace cadastre
