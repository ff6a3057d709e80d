// What a hostile guest does is its role: the first word of its command line, a file of this folder for each, a line of the
// table in main.cc. Other words are the role's.
//
// What all roles count on is the guest's own clock, and nothing here has to be right: what a run shows is whether the hypervisor
// and the neighbours go on.
#pragma once

#include <cstdint>

#include "guest/common/cpu.hh"

namespace cadastre::guest {

void translate();   // translate.cc
void spin();        // sleeper.cc
void wake();        // waker.cc
void sleep();       // sleeper.cc
void kick();        // kicker.cc
void reset();       // resetter.cc
void touch();       // toucher.cc
void watch();       // watcher.cc
void second_cpu();  // second_cpu.cc

// What is left of a stretch of the clock, in its own ticks.
class Stretch {
 public:
  explicit Stretch(std::uint64_t ticks) : end_(timer_count() + ticks) {}
  [[nodiscard]] static Stretch of_seconds(std::uint32_t seconds) {
    return Stretch(std::uint64_t{seconds} * timer_frequency());
  }
  [[nodiscard]] static Stretch of_microseconds(std::uint32_t microseconds) {
    return Stretch(std::uint64_t{microseconds} * timer_frequency() / 1'000'000);
  }
  [[nodiscard]] std::uint64_t end() const { return end_; }
  [[nodiscard]] bool over() const { return timer_count() >= end_; }
  void spin_out() const {
    while (!over()) {
    }
  }

 private:
  std::uint64_t end_;
};

}  // namespace cadastre::guest
