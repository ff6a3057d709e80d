#include "mm/boot/reservations.hh"

#include <algorithm>

#include "mm/base/check.hh"

namespace cadastre {

PhysAddr Reservation::last() const {
  const std::uint64_t room = ~base.value();
  return base + std::min(size - 1, room);
}

bool Reservation::overlaps(const Reservation& other) const {
  if (size == 0 || other.size == 0) return false;
  return base <= other.last() && other.base <= last();
}

bool may_share(const Reservation& a, const Reservation& b) {
  const auto either = [&](Purpose purpose) { return a.purpose == purpose || b.purpose == purpose; };
  const auto is_file = [](const Reservation& r) {
    return r.purpose == Purpose::kModule || r.purpose == Purpose::kInitrd;
  };
  if (either(Purpose::kPool)) return false;
  if (either(Purpose::kFirmware)) return true;
  // They are only read. That two guests' files are the same one is for the plan to judge.
  if (is_file(a) && is_file(b)) return true;
  // Entries of one node's reg.
  return a.purpose == b.purpose && a.name == b.name;
}

std::expected<void, Reservation> Reservations::add(const Reservation& wanted) {
  if (wanted.size == 0) return {};
  for (const Reservation& other : all()) {
    if (wanted.overlaps(other) && !may_share(wanted, other)) return std::unexpected(other);
  }
  CHECK(count_ < kCapacity);
  all_[count_++] = wanted;
  return {};
}

}  // namespace cadastre
