#include "platform/psci.hh"

namespace cadastre {

std::int32_t psci_call(PsciConduit conduit, std::uint32_t function, std::uint32_t argument1, std::uint32_t argument2,
                       std::uint32_t argument3) {
  // [SMCCC 2.6]: r0 to r3 are arguments and results; the rest is kept.
  // NOLINTBEGIN(misc-const-correctness): the assembly writes them.
  register std::uint32_t r0 asm("r0") = function;
  register std::uint32_t r1 asm("r1") = argument1;
  register std::uint32_t r2 asm("r2") = argument2;
  register std::uint32_t r3 asm("r3") = argument3;
  // NOLINTEND(misc-const-correctness)
  if (conduit == PsciConduit::kSmc) {
    asm volatile("smc #0" : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3) : : "r12", "lr", "memory");
  } else {
    asm volatile("hvc #0" : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3) : : "r12", "lr", "memory");
  }
  return static_cast<std::int32_t>(r0);
}

}  // namespace cadastre
