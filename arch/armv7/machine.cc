#include "arch/armv7/machine.hh"

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "mm/base/check.hh"
#include "mm/translation/hyp_table.hh"

namespace cadastre::arch {

static_assert(Machine<ArmMachine>);

ArmMachine machine;

std::byte* ArmMachine::kmap(Pfn frame) {
  if (frame < high_memory_) return linear(address_of(frame));
  Cpu& cpu = this_cpu();
  const Result<unsigned> window = cpu.kmap.push();
  CHECK(window.has_value());
  const unsigned slot = cpu.index * layout::kKmapPagesPerCpu + *window;
  static_cast<volatile Entry*>(kmap_table_)[slot] =
      make_leaf(address_of(frame), kLastLevel, HypAttributes::data().bits());
  dsb_ish();  // the table walk sees it before the first access
  isb();
  return reinterpret_cast<std::byte*>(layout::kKmap + slot * kPageSize);
}

void ArmMachine::kunmap(const std::byte* window) {
  const auto address = reinterpret_cast<std::uintptr_t>(window);
  if (address < layout::kKmap) return;
  Cpu& cpu = this_cpu();
  const unsigned slot = (address - layout::kKmap) / kPageSize;
  CHECK(cpu.kmap.pop(slot - cpu.index * layout::kKmapPagesPerCpu));
  static_cast<volatile Entry*>(kmap_table_)[slot] = 0;
  // The windows are this CPU's alone, so its own TLB is all there is to tell.
  dsb_ish();
  TLBIMVAH::write(address);
  dsb_ish();
  isb();
}

}  // namespace cadastre::arch
