// The wire from a device to the interrupt controller.
#pragma once

namespace cadastre {

class InterruptLine {
 public:
  InterruptLine() = default;
  InterruptLine(const InterruptLine&) = delete;
  InterruptLine& operator=(const InterruptLine&) = delete;
  // Called on changes only, and with the device's lock held, so that the last call always tells the device's
  // state.
  virtual void set(bool level) = 0;

 protected:
  ~InterruptLine() = default;
};

}  // namespace cadastre
