// The software image of one CPU's virtual interface control registers (GICH), and their bit layout
// [GICv2 5.3]. The vGIC fills it before a vCPU is entered and reads it back afterwards; the world switch
// moves it to and from the hardware.
//
//   GICH_LRn   31  30   29   28 27      23 22 20 19                 10 9               0
//             +---+----+-------+----------+-----+--------------------+------------------+
//             |HW |Grp1| State | Priority |  0  | HW=1: PhysicalID   |    VirtualID     |
//             |   |    |       |  [7:3]   |     | HW=0: EOI 0.. CPUID|                  |
//             +---+----+-------+----------+-----+--------------------+------------------+
#pragma once

#include <array>
#include <cstdint>

namespace cadastre {

namespace gich {

// GICH_HCR [GICv2 5.3.1]
inline constexpr std::uint32_t kHcrEnable = 1U << 0;
inline constexpr std::uint32_t kHcrUnderflow = 1U << 1;        // UIE: none or one valid list register
inline constexpr std::uint32_t kHcrEntryNotPresent = 1U << 2;  // LRENPIE: EOICount is not zero
inline constexpr std::uint32_t kHcrNoPending = 1U << 3;        // NPIE: no list register is pending
inline constexpr unsigned kHcrEoiCountShift = 27;              // EOICount, 5 bits

// GICH_LRn [GICv2 5.3.8]
inline constexpr std::uint32_t kLrHardware = 1U << 31;  // deactivation goes to the physical interrupt
inline constexpr std::uint32_t kLrGroup1 = 1U << 30;
inline constexpr std::uint32_t kLrActive = 1U << 29;
inline constexpr std::uint32_t kLrPending = 1U << 28;
inline constexpr std::uint32_t kLrState = kLrActive | kLrPending;  // neither: the list register is free
inline constexpr unsigned kLrPriorityShift = 23;                   // bits [7:3] of the priority
inline constexpr unsigned kLrPhysicalIdShift = 10;                 // HW = 1
inline constexpr std::uint32_t kLrEoi = 1U << 19;                  // HW = 0: deactivation asks for maintenance
inline constexpr unsigned kLrCpuIdShift = 10;                      // HW = 0: the vCPU that sent an SGI
inline constexpr std::uint32_t kLrVirtualId = 0x3ff;

inline constexpr unsigned kMaxListRegisters = 64;

static_assert((kLrState | kLrGroup1 | kLrHardware) == 0xf000'0000);
static_assert(kLrVirtualId >> kLrPhysicalIdShift == 0);
static_assert((0x1fU << kLrPriorityShift) == 0x0f80'0000);

}  // namespace gich

struct GichState {
  // The list registers that hold an interrupt, a bit each: only these need to be read back from the hardware,
  // and every other `lr` is zero. Those that the hardware has emptied meanwhile (GICH_ELRSRn) may be stored
  // as zero unread.
  std::uint64_t used = 0;
  std::uint32_t hcr = gich::kHcrEnable;
  std::uint32_t vmcr = 0;  // the guest's own: GICV_CTLR, GICV_PMR, GICV_BPR [GICv2 5.3.3]. Not touched by the vGIC
  std::uint32_t apr = 0;   // active priorities [GICv2 5.3.7]. Not touched by the vGIC
  std::array<std::uint32_t, gich::kMaxListRegisters> lr{};
};

}  // namespace cadastre
