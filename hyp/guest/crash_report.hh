// What a guest was doing when it came to a bad end, for whoever has to find out why: a vCPU's registers, how its pc is
// translated, and where it came from. Said in small steps: much of it is a walk of the guest's tables for each word.
#pragma once

#include <cstdint>

namespace cadastre {

struct Vcpu;

class CrashReport {
 public:
  // The vCPU is not loaded on any CPU, and lives until all has been said. Nothing of its guest is populated or changed.
  void begin(Vcpu& vcpu);
  // Says the next part. False: there was nothing left to say.
  bool step();

 private:
  enum class Part : std::uint8_t { kNothing, kRegisters, kWalk, kFrames, kStack };

  Vcpu* vcpu_ = nullptr;
  Part part_ = Part::kNothing;
  std::uint32_t frame_pointer_ = 0;
  std::uint32_t stack_pointer_ = 0;
  unsigned frames_ = 0;   // said
  unsigned guesses_ = 0;  // said
  unsigned words_ = 0;    // of the stack, looked at
};

}  // namespace cadastre
