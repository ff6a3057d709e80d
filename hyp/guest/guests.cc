#include "hyp/guest/guests.hh"

#include <array>

#include "hyp/core/machine_end.hh"
#include "hyp/guest/vm.hh"
#include "mm/base/check.hh"

namespace cadastre {
namespace {
std::array<Guest, kMaxGuests> guests;
}

bool book_guests(const Configuration& configuration, const GuestHost& host, Refusals& refusals) {
  CHECK(Guest::init(host).has_value());
  const auto count = static_cast<unsigned>(configuration.guests.size());
  for (unsigned i = 0; i < count; ++i) guests[i].plan(configuration.guests[i], i);
  for (const Share share : {Share::kTables, Share::kRam}) {
    for (unsigned i = 0; i < count; ++i) {
      if (guests[i].book(share)) continue;
      refuse(refusals, configuration.guests[i],
             "what it asks for is not there any more: give guests less or the machine more");
      return false;
    }
  }
  return true;
}

void start_guests(const Configuration& configuration) {
  const auto count = static_cast<unsigned>(configuration.guests.size());
  expect_guests(count);
  for (unsigned i = 0; i < count; ++i) guests[i].begin();
}

void guest_stopped(Vm& vm) {
  guests[vm.id() - 1U].stopped();
}

}  // namespace cadastre
