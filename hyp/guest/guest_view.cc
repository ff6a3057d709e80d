#include "hyp/guest/guest_view.hh"

#include "arch/armv7/cp15.hh"

namespace cadastre {

GuestMmu loaded_mmu() {
  return {.sctlr = arch::SCTLR::read(),
          .ttbcr = arch::TTBCR::read(),
          .ttbr0 = arch::TTBR0::read(),
          .ttbr1 = arch::TTBR1::read(),
          .dacr = arch::DACR::read(),
          .prrr = arch::PRRR::read(),
          .nmrr = arch::NMRR::read(),
          .hcr = arch::HCR::read()};
}

GuestMmu saved_mmu(const arch::SystemRegisters& registers) {
  return {.sctlr = registers.sctlr,
          .ttbcr = registers.ttbcr,
          .ttbr0 = registers.ttbr0,
          .ttbr1 = registers.ttbr1,
          .dacr = registers.dacr,
          .prrr = registers.prrr,
          .nmrr = registers.nmrr,
          .hcr = arch::HCR::read()};
}

}  // namespace cadastre
