// The host's GICv2: distributor and CPU interface for our own interrupts, and the virtual interface control
// (GICH) whose list registers carry a guest's [GICv2 chapters 4 and 5].
#pragma once

#include <cstddef>
#include <cstdint>

namespace cadastre {

class Gic {
 public:
  static constexpr unsigned kSpurious = 1023;  // [GICv2 3.2.5] 1020 to 1023 are special
  static constexpr unsigned kFirstSpecial = 1020;

  // The mapped register blocks. Then `init_distributor` once, `init_cpu` on each CPU.
  void attach(void* gicd, void* gicc, void* gich);
  void init_distributor();
  void init_cpu();

  // A shared interrupt goes to this CPU alone.
  void enable(unsigned interrupt, bool level);
  void disable(unsigned interrupt);

  // The interrupt to handle now, and its source CPU for SGIs in bits [12:10]; kSpurious when there is none.
  [[nodiscard]] std::uint32_t acknowledge();
  // Ends the priority drop's phase: others may come, this one stays active until `deactivate` (EOImode 1)
  // [GICv2 3.2.1]. A guest deactivates those that it was given by a hardware list register.
  void drop_priority(std::uint32_t acknowledged);
  void deactivate(std::uint32_t acknowledged);

  // The active state of one of this CPU's private interrupts, which goes with the vCPU that has it in flight.
  [[nodiscard]] bool is_active(unsigned interrupt) const;
  void set_active(unsigned interrupt, bool active);

  // Makes the GIC look at what is pending now. Hardware does so all the time; QEMU's (7.2) does not when a guest ends an
  // interrupt through a hardware list register, and one whose line is still high, or high again, would stay unseen until
  // something else happens. To be called before this CPU sleeps.
  void reevaluate();

  // A software-generated interrupt to the CPUs whose interfaces these are.
  void send_sgi(unsigned sgi, std::uint8_t interface_mask);
  // This CPU's interface number, a bit mask as GICD_ITARGETSR shows it [GICv2 4.3.12].
  [[nodiscard]] std::uint8_t interface_mask() const;

  [[nodiscard]] unsigned list_registers() const { return list_registers_; }
  [[nodiscard]] volatile std::uint32_t* gich() const { return gich_; }

 private:
  volatile std::uint32_t* gicd_ = nullptr;
  volatile std::uint32_t* gicc_ = nullptr;
  volatile std::uint32_t* gich_ = nullptr;
  unsigned list_registers_ = 0;
};

}  // namespace cadastre
