#include "hyp/check/scratch_guest.hh"

#include "arch/armv7/barrier.hh"
#include "arch/armv7/cp15.hh"
#include "arch/armv7/guest_state.hh"
#include "mm/base/check.hh"

namespace cadastre {
namespace {

constexpr unsigned kTableLimit = 64;

}  // namespace

ScratchGuest::Frames::~Frames() {
  if (root_) memory.pages.free(*root_, kRootOrder);
  if (pool_) memory.pages.free(*pool_, kPageblockOrder);
}

ScratchGuest::ScratchGuest(const Frames& frames)
    : pool_(frames.pool()),
      vmid_(vmids_.activate(arch::machine.cpu(), environment_.vmid()).number),
      stage2_(environment_, frames.root()) {
  stage2_.set_table_limit(kTableLimit);
}

ScratchGuest::~ScratchGuest() {
  clear();
  arch::HCR::write(arch::hcr::kGuest);
  arch::SystemRegisters{}.restore();
  arch::VTTBR::write(0);
  arch::isb();
  arch::TLBIALLNSNH::write(0);
  arch::dsb();
}

void ScratchGuest::clear() {
  CHECK(stage2_.unmap(IpaAddr(0), Table::kInputSize));
}

void ScratchGuest::load() const {
  arch::HCR::write(mmu_.hcr);
  arch::VTTBR::write(vttbr(stage2_.root(), vmid_));
  arch::SCTLR::write(mmu_.sctlr);
  arch::TTBCR::write(mmu_.ttbcr);
  arch::TTBR0::write(mmu_.ttbr0);
  arch::TTBR1::write(mmu_.ttbr1);
  arch::DACR::write(mmu_.dacr);
  arch::PRRR::write(mmu_.prrr);
  arch::NMRR::write(mmu_.nmrr);
  arch::dsb();  // the tables are in memory
  arch::isb();
  arch::TLBIALLNSNH::write(0);
  arch::dsb();
  arch::isb();
}

template <class Word>
void ScratchGuest::put(IpaAddr ipa, Word word) {
  const auto mapping = translate(ipa);
  Word* place = mapping ? pool_word<Word>(mapping->address) : nullptr;
  if (place != nullptr) *place = (mmu_.sctlr & sctlr::kExceptionEndian) != 0 ? std::byteswap(word) : word;
}
void ScratchGuest::put32(IpaAddr ipa, std::uint32_t word) {
  put(ipa, word);
}
void ScratchGuest::put64(IpaAddr ipa, std::uint64_t word) {
  put(ipa, word);
}

}  // namespace cadastre
