#include "hyp/core/masked_stretch.hh"

#include "hyp/core/console.hh"

namespace cadastre {

MaskedStretch masked_stretch;

void MaskedStretch::report() const {
  if (!watched_) return;
  console.print("masked: interrupts waited for at most {} instructions, during {} {:x}", longest_.length, longest_.what,
                longest_.number);
}

}  // namespace cadastre
