#include "platform/gic.hh"

#include "arch/armv7/barrier.hh"

namespace cadastre {
namespace {

// Word indices. Distributor [GICv2 table 4-1].
constexpr std::size_t kGicdCtlr = 0x000 / 4;
constexpr std::size_t kGicdTyper = 0x004 / 4;
constexpr std::size_t kGicdIsenabler = 0x100 / 4;
constexpr std::size_t kGicdIcenabler = 0x180 / 4;
constexpr std::size_t kGicdIcpendr = 0x280 / 4;
constexpr std::size_t kGicdIsactiver = 0x300 / 4;
constexpr std::size_t kGicdIcactiver = 0x380 / 4;
constexpr std::size_t kGicdIpriorityr = 0x400 / 4;
constexpr std::size_t kGicdItargetsr = 0x800 / 4;
constexpr std::size_t kGicdIcfgr = 0xc00 / 4;
constexpr std::size_t kGicdSgir = 0xf00 / 4;
// CPU interface [GICv2 table 4-2].
constexpr std::size_t kGiccCtlr = 0x000 / 4;
constexpr std::size_t kGiccPmr = 0x004 / 4;
constexpr std::size_t kGiccIar = 0x00c / 4;
constexpr std::size_t kGiccEoir = 0x010 / 4;
constexpr std::size_t kGiccDir = 0x1000 / 4;
// Virtual interface control [GICv2 table 5-4].
constexpr std::size_t kGichHcr = 0x000 / 4;
constexpr std::size_t kGichVtr = 0x004 / 4;
constexpr std::size_t kGichLr = 0x100 / 4;

constexpr std::uint32_t kGiccEnable = 1U << 0;
constexpr std::uint32_t kGiccEoiModeNs = 1U << 9;
constexpr std::uint32_t kPriorities = 0xa0a0a0a0;  // one for all: HYP's interrupts do not nest
constexpr std::uint32_t kAllPriorities = 0xff;
constexpr unsigned kFirstShared = 32;

}  // namespace

void Gic::attach(void* gicd, void* gicc, void* gich) {
  gicd_ = static_cast<volatile std::uint32_t*>(gicd);
  gicc_ = static_cast<volatile std::uint32_t*>(gicc);
  gich_ = static_cast<volatile std::uint32_t*>(gich);
  list_registers_ = (gich_[kGichVtr] & 0x3f) + 1;
}

void Gic::init_distributor() {
  gicd_[kGicdCtlr] = 0;
  const unsigned words = (gicd_[kGicdTyper] & 0x1f) + 1;  // of 32 interrupts each
  for (unsigned word = kFirstShared / 32; word < words; ++word) {
    gicd_[kGicdIcenabler + word] = ~0U;
    gicd_[kGicdIcpendr + word] = ~0U;
    gicd_[kGicdIcactiver + word] = ~0U;
    for (unsigned i = 0; i < 8; ++i) gicd_[kGicdIpriorityr + word * 8 + i] = kPriorities;
  }
  gicd_[kGicdCtlr] = 1;
}

void Gic::init_cpu() {
  gicd_[kGicdIcenabler] = 0xffff0000;  // private interrupts; SGIs stay enabled
  gicd_[kGicdIcpendr] = 0xffff0000;
  gicd_[kGicdIcactiver] = ~0U;
  for (unsigned i = 0; i < 8; ++i) gicd_[kGicdIpriorityr + i] = kPriorities;
  gicd_[kGicdIsenabler] = 0x0000ffff;
  gicc_[kGiccPmr] = kAllPriorities;
  gicc_[kGiccCtlr] = kGiccEnable | kGiccEoiModeNs;
  gich_[kGichHcr] = 0;
  for (unsigned i = 0; i < list_registers_; ++i) gich_[kGichLr + i] = 0;
}

std::uint8_t Gic::interface_mask() const {
  // The targets of a private interrupt read as the reading CPU.
  return static_cast<std::uint8_t>(gicd_[kGicdItargetsr] & 0xff);
}

void Gic::enable(unsigned interrupt, bool level) {
  const unsigned word = interrupt / 32;
  if (interrupt >= kFirstShared) {
    const unsigned shift = interrupt % 16 * 2;
    const std::uint32_t edge = level ? 0 : 2;
    gicd_[kGicdIcfgr + interrupt / 16] = (gicd_[kGicdIcfgr + interrupt / 16] & ~(3U << shift)) | (edge << shift);
    const unsigned target = interrupt % 4 * 8;
    gicd_[kGicdItargetsr + interrupt / 4] =
        (gicd_[kGicdItargetsr + interrupt / 4] & ~(0xffU << target)) | (std::uint32_t{interface_mask()} << target);
  }
  gicd_[kGicdIsenabler + word] = 1U << (interrupt % 32);
}

void Gic::disable(unsigned interrupt) {
  gicd_[kGicdIcenabler + interrupt / 32] = 1U << (interrupt % 32);
}

std::uint32_t Gic::acknowledge() {
  return gicc_[kGiccIar];
}

void Gic::drop_priority(std::uint32_t acknowledged) {
  gicc_[kGiccEoir] = acknowledged;
}

void Gic::deactivate(std::uint32_t acknowledged) {
  gicc_[kGiccDir] = acknowledged;
}

bool Gic::is_active(unsigned interrupt) const {
  return ((gicd_[kGicdIsactiver + interrupt / 32] >> (interrupt % 32)) & 1) != 0;
}

void Gic::set_active(unsigned interrupt, bool active) {
  gicd_[(active ? kGicdIsactiver : kGicdIcactiver) + interrupt / 32] = 1U << (interrupt % 32);
}

void Gic::reevaluate() {
  gicc_[kGiccPmr] = kAllPriorities;
}

void Gic::send_sgi(unsigned sgi, std::uint8_t interface_mask) {
  arch::dsb_ish();  // what the other CPU is to see is written [GICv2 4.3.15 leaves the order to us]
  gicd_[kGicdSgir] = (std::uint32_t{interface_mask} << 16) | sgi;
}

}  // namespace cadastre
