// What memory is taken for, before anybody allocates: a record of each range with its purpose and its name.
//
//   [ image ]  [ DTB ]     [ module ][ module ]       [    pool    ]    [ no-map ]
//        [/memreserve/]     [initrd]
//
// Memory has one purpose: what overlaps something of another one is refused, so that nobody is handed what somebody else
// holds. What only says of memory that it is taken may say so of what is taken anyway: firmware repeats in /memreserve/ what
// its tree reserves, the tree itself or the initrd, and a guest's file may be the initrd. A pool, whose frames are handed out,
// overlaps nothing at all.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "mm/base/address.hh"

namespace cadastre {

enum class Purpose : std::uint8_t {
  kImage,       // the hypervisor's
  kDeviceTree,  // the machine's
  kFirmware,    // /memreserve/
  kInitrd,      // the machine's, of /chosen
  kModule,      // a guest's file
  kNode,        // of /reserved-memory, which the hypervisor leaves alone
  kNoMap,       // of /reserved-memory, which nothing may map
  kPool,        // handed over to a CMA area
};

struct Reservation {
  PhysAddr base;
  std::uint64_t size = 0;  // bytes
  Purpose purpose = Purpose::kFirmware;
  std::string_view name;  // for people; outlives the record

  // Its last byte; of one that would wrap, the last there is. Not of an empty one.
  [[nodiscard]] PhysAddr last() const;
  [[nodiscard]] bool overlaps(const Reservation& other) const;
};

// Whether the two may hold the same memory.
[[nodiscard]] bool may_share(const Reservation& a, const Reservation& b);

class Reservations {
 public:
  static constexpr std::size_t kCapacity = 64;

  constexpr Reservations() = default;
  Reservations(const Reservations&) = delete;
  Reservations& operator=(const Reservations&) = delete;

  // Records it; an empty one is nothing to record. The error is the first of those there are that it must not overlap:
  // nothing is recorded then. Not called when there are kCapacity.
  [[nodiscard]] std::expected<void, Reservation> add(const Reservation& wanted);

  // In the order that they were added.
  [[nodiscard]] std::span<const Reservation> all() const { return std::span(all_).first(count_); }

 private:
  std::array<Reservation, kCapacity> all_{};
  std::size_t count_ = 0;
};

}  // namespace cadastre
