// What the device tree tests share: reading a blob, and looking through refusals.
#pragma once

#include <array>
#include <string_view>

#include "platform/dtb/host.hh"
#include "tests/unit/dtb_builder.hh"

namespace cadastre {

struct HostReading {
  HostDescription host;
  Refusals refusals;
  bool is_accepted = false;
};

inline HostReading read_host_from(const Blob& blob) {
  HostReading reading;
  const auto tree = DeviceTree::open(blob.bytes(), reading.refusals);
  reading.is_accepted = tree && read_host(*tree, reading.host, reading.refusals);
  return reading;
}

// Whether one of the refusals has every one of these texts in it.
template <class... Texts>
bool refuses(const Refusals& refusals, const Texts&... texts) {
  for (std::size_t i = 0; i < std::min(refusals.count(), Refusals::kCapacity); ++i) {
    if (((refusals[i].find(texts) != std::string_view::npos) && ...)) return true;
  }
  return false;
}

}  // namespace cadastre
