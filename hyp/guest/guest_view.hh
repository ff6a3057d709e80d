// A guest's memory as GuestWalk reads it (mm/translation/guest_walk.hh): the registers that translation depends on, stage 2, and the RAM
// behind it.
#pragma once

#include <cstdint>
#include <optional>

#include "arch/armv7/guest_state.hh"
#include "arch/armv7/machine.hh"
#include "arch/armv7/table_operations.hh"
#include "mm/base/address.hh"
#include "mm/translation/guest_walk.hh"

namespace cadastre {

// Of the vCPU that is loaded on this CPU, and of one that is not.
[[nodiscard]] GuestMmu loaded_mmu();
[[nodiscard]] GuestMmu saved_mmu(const arch::SystemRegisters& registers);

// GuestPhysicalMemory over the stage 2 `Table`, whose lock the caller holds.
template <class Table>
class GuestView {
 public:
  explicit GuestView(const Table& table) : table_(table) {}

  [[nodiscard, gnu::always_inline]] std::optional<Mapping<Stage2Attributes>> translate(IpaAddr ipa) const {
    [[clang::always_inline]] return table_.query(ipa);
  }
  [[nodiscard]] unsigned fault_level(IpaAddr ipa) const { return table_.lookup_level(ipa); }

  [[nodiscard, gnu::always_inline]] std::optional<std::uint32_t> read32(PhysAddr address) const {
    return read<std::uint32_t>(address,
                               [](const void* word) { return *static_cast<const volatile std::uint32_t*>(word); });
  }
  [[nodiscard, gnu::always_inline]] std::optional<std::uint64_t> read64(PhysAddr address) const {
    return read<std::uint64_t>(
        address, [](const void* word) { return arch::TableOperations::load(static_cast<const Entry*>(word)); });
  }

 private:
  // What is read is RAM: a guest's walk may only go through Normal memory (HCR.PTW), and nothing else is mapped as that.
  template <class Word, class Load>
  [[nodiscard, gnu::always_inline]] std::optional<Word> read(PhysAddr address, Load&& load) const {
    const Pfn page = frame_of(address);
    if (page < arch::machine.high_memory()) [[likely]]
      return load(arch::machine.linear(address));
    std::byte* window = arch::machine.kmap(page);
    const Word word = load(window + address.offset_in(kPageSize));
    arch::machine.kunmap(window);
    return word;
  }

  const Table& table_;
};

}  // namespace cadastre
