// What the configuration asks for, whichever binding it is written in: plain values, checked as a whole
// before anything is built.
//
//   device tree --read_configuration--> Configuration --check_plan--> the same, each guest with its layout
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "mm/base/address.hh"
#include "platform/dtb/device_tree.hh"
#include "platform/dtb/fixed.hh"
#include "platform/dtb/host.hh"
#include "platform/dtb/refusals.hh"

namespace cadastre {

inline constexpr unsigned kMaxGuests = 8;

// A file that a boot loader has put into RAM.
struct GuestModule {
  bool is_given = false;   // the guest has such a node
  bool is_loaded = false;  // `range` says where
  bool is_shared = false;  // another guest's module is the same bytes; set by check_plan
  DtPath path;             // its node's
  FixedString<95> file;    // for people: a longer name keeps its end
  PhysRange range;
};

// Bytes of a module that go into the guest's RAM. What is beyond `source_size` is zero.
struct GuestSegment {
  PhysAddr source;
  std::uint64_t source_size = 0;
  IpaRange target;
};

// Where everything of a guest goes. All of it lies in the guest's RAM, and no part overlaps another.
struct GuestLayout {
  static constexpr std::size_t kMaxSegments = 8;  // of a kernel; and the initrd
  InplaceVector<GuestSegment, kMaxSegments + 1> segments;
  IpaRange initrd;  // size 0: none. Also the last of `segments`
  IpaRange dtb;     // room for the generated device tree, page-aligned
  IpaAddr entry;
  bool is_thumb = false;  // entered in Thumb state
};

struct GuestPlan {
  FixedString<31> name;  // its node's
  DtPath path;
  std::uint64_t memory = 0;  // bytes
  unsigned cpus = 1;
  bool is_eager = false;       // all of its RAM is populated before it starts
  unsigned largest_level = 2;  // of its RAM's mappings, 1 (1 GiB), 2 (2 MiB) or 3 (4 KiB)
  GuestModule kernel;
  GuestModule initrd;
  FixedString<1023> bootargs;
  std::optional<std::uint64_t> load_offset;  // of a raw image, from the RAM's base
  GuestLayout layout;                        // by check_plan
};

struct Configuration {
  InplaceVector<GuestPlan, kMaxGuests> guests;
};

// Reads every guest of /hypervisor (dts/README.md) and of Xen's dom0less binding in /chosen. False, with each
// reason in `refusals`, when there is anything in it to refuse.
[[nodiscard]] bool read_configuration(const DeviceTree& tree, Configuration& configuration, Refusals& refusals);

// A size as people write it: "128 MiB", "12 KiB", "5 bytes".
using SizeText = FixedString<27>;
[[nodiscard]] SizeText size_text(std::uint64_t bytes);

// `PATH: REASON`.
template <class... Arguments>
void refuse(Refusals& refusals, const GuestPlan& guest, std::string_view format, const Arguments&... arguments) {
  std::array<char, Refusals::kLineSize> reason;
  refusals.add("{}: {}", guest.path.view(), format_to(reason, format, arguments...));
}

// `PATH (FILE): REASON`.
template <class... Arguments>
void refuse(Refusals& refusals, const GuestModule& module, std::string_view format, const Arguments&... arguments) {
  std::array<char, Refusals::kLineSize> reason;
  const std::string_view text = format_to(reason, format, arguments...);
  if (module.file.empty()) {
    refusals.add("{}: {}", module.path.view(), text);
  } else {
    refusals.add("{} ({}): {}", module.path.view(), module.file.view(), text);
  }
}

}  // namespace cadastre
