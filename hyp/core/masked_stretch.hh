// How long interrupts stay masked. They are taken in guests, in WFI, and where the hypervisor looks for them
// (handle_interrupts); what lies between is a stretch, and the longest of a run is said at its end. Nothing that a guest can
// make the hypervisor do, and no step of a job, may be longer than kMost.
//
// Measured where the machine counts instructions: with QEMU's -icount, and one CPU, for the count is that of all of them.
#pragma once

#include <cstdint>
#include <string_view>

#include "arch/armv7/instruction_counter.hh"

namespace cadastre {

class MaskedStretch {
 public:
  static constexpr std::uint32_t kMost = 40'000;  // instructions

  // From now on, if they can be counted.
  void watch(unsigned cpus) {
    watched_ = cpus == 1 && arch::instructions() != 0;
    begin("the beginning");
  }
  [[nodiscard]] bool is_watched() const { return watched_; }

  // A stretch begins: a guest has been left by an exit of this class, or interrupts have been taken.
  void begin(std::string_view what, std::uint32_t number = 0) {
    begin_ = arch::instructions();
    during(what, number);
  }
  // What the hypervisor does now, and what takes most of a stretch as a rule: text that stays, and a number that tells apart
  // what has the same name.
  void during(std::string_view what, std::uint32_t number = 0) { now_ = {.number = number, .what = what}; }
  void end() {
    now_.length = arch::instructions() - begin_;
    if (now_.length > longest_.length) longest_ = now_;
  }

  // Says what the longest was.
  void report() const;

 private:
  struct Stretch {
    std::uint32_t length = 0;
    std::uint32_t number = 0;
    std::string_view what;
  };
  bool watched_ = false;
  std::uint32_t begin_ = 0;
  Stretch now_;
  Stretch longest_;
};

extern MaskedStretch masked_stretch;

}  // namespace cadastre
