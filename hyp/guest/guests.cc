#include "hyp/guest/guests.hh"

#include <array>

#include "hyp/core/machine_end.hh"
#include "hyp/guest/vm.hh"
#include "mm/base/check.hh"

namespace cadastre {
namespace {
std::array<Guest, kMaxGuests> guests;
}

void start_guests(const Configuration& configuration, const GuestHost& host) {
  CHECK(Guest::init(host).has_value());
  const auto count = static_cast<unsigned>(configuration.guests.size());
  expect_guests(count);
  for (unsigned i = 0; i < count; ++i) guests[i].begin(configuration.guests[i], i);
}

void guest_stopped(Vm& vm) {
  guests[vm.id() - 1U].stopped();
}

}  // namespace cadastre
