// What is typed at the machine's console: kept here until the guest that has the console takes it.
#pragma once

#include <array>
#include <cstddef>

#include "hyp/devices/vpl011.hh"
#include "mm/base/spinlock.hh"

namespace cadastre {

class ConsoleInput {
 public:
  // The guest's UART that gets the input from now on; none drops it.
  void attach(Vpl011* uart) EXCLUDES(lock_);
  // From the host UART's interrupt: takes what it has, as far as there is room.
  void receive() EXCLUDES(lock_);
  // The guest has read: there may be room again.
  void deliver() EXCLUDES(lock_);

 private:
  void deliver_locked() REQUIRES(lock_);

  static constexpr std::size_t kSize = 1024;  // a paste of a few lines

  Spinlock lock_;
  Vpl011* uart_ GUARDED_BY(lock_) = nullptr;
  std::array<char, kSize> ring_ GUARDED_BY(lock_){};
  std::size_t head_ GUARDED_BY(lock_) = 0;  // of the oldest
  std::size_t count_ GUARDED_BY(lock_) = 0;
};

extern ConsoleInput console_input;

}  // namespace cadastre
