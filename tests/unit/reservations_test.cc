#include "mm/boot/reservations.hh"

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "tests/unit/random_runs.hh"
#include "tests/unit/test.hh"

namespace cadastre {
namespace {

using enum Purpose;
constexpr std::array kAll = {kImage, kDeviceTree, kFirmware, kInitrd, kModule, kNode, kNoMap, kPool};

using Range = std::pair<std::uint64_t, std::uint64_t>;

Reservation at(std::uint64_t base, std::uint64_t size, Purpose purpose, std::string_view name) {
  return {.base = PhysAddr(base), .size = size, .purpose = purpose, .name = name};
}

TEST_CASE("reservations: two purposes never share a byte, and the one that was there first is named") {
  for (const Purpose first : {kImage, kDeviceTree, kModule, kNode, kNoMap, kPool}) {
    for (const Purpose second : {kImage, kDeviceTree, kModule, kNode, kNoMap, kPool}) {
      if (first == kModule && second == kModule) continue;
      Reservations all;
      REQUIRE(all.add(at(0x2000, 0x1000, first, "first")));
      for (const auto& [base, size] : {Range(0x1000, 0x1001), Range(0x2000, 0x1000), Range(0x2800, 1),
                                       Range(0x2fff, 0x1000), Range(0, UINT64_MAX)}) {
        const auto refused = all.add(at(base, size, second, "second"));
        REQUIRE_FALSE(refused.has_value());
        CHECK_EQ(refused.error().name, "first");
        CHECK(refused.error().base == PhysAddr(0x2000));
      }
      CHECK(all.add(at(0x1000, 0x1000, second, "below")));
      CHECK(all.add(at(0x3000, UINT64_MAX, second, "above, to the end")));
      CHECK_EQ(all.all().size(), 3);
    }
  }
}

TEST_CASE("reservations: firmware may say of anything but a pool that it is taken") {
  for (const Purpose purpose : kAll) {
    Reservations all;
    REQUIRE(all.add(at(0x2000, 0x1000, purpose, "it")));
    CHECK_EQ(all.add(at(0x1000, 0x3000, kFirmware, "/memreserve/")).has_value(), purpose != kPool);
    Reservations other_order;
    REQUIRE(other_order.add(at(0x1000, 0x3000, kFirmware, "/memreserve/")));
    CHECK_EQ(other_order.add(at(0x2000, 0x1000, purpose, "it")).has_value(), purpose != kPool);
  }
}

TEST_CASE("reservations: files are read only, so the initrd may be a guest's, and entries of one node may overlap") {
  Reservations all;
  CHECK(all.add(at(0x2000, 0x1000, kInitrd, "/chosen")));
  CHECK(all.add(at(0x2000, 0x1000, kModule, "/hypervisor/a/initrd")));
  CHECK(all.add(at(0x2000, 0x1000, kModule, "/hypervisor/b/initrd")));
  CHECK(all.add(at(0x8000, 0x1000, kNode, "/reserved-memory/a")));
  CHECK(all.add(at(0x8800, 0x1000, kNode, "/reserved-memory/a")));
  CHECK_FALSE(all.add(at(0x8800, 0x1000, kNode, "/reserved-memory/b")));
  CHECK(all.add(at(0x1'0000, 0x1000, kPool, "/reserved-memory/c")));
  CHECK_FALSE(all.add(at(0x1'0000, 0x1000, kPool, "/reserved-memory/c")));
}

// Adds what is decided, and knows of each byte whose it is.
class ReservationsDriver {
 public:
  explicit ReservationsDriver(model::Decide decide) : decide_(std::move(decide)) {}

  void step() {
    const Reservation wanted =
        at(decide_(64), decide_(9), kAll[static_cast<std::size_t>(decide_(std::size(kAll)))], "it");
    const auto added = all_->add(wanted);
    bool in_the_way = false;
    for (const Reservation& other : held_) in_the_way = in_the_way || clash(wanted, other);
    if (added.has_value() == in_the_way) throw model::Violation{"added or refused against the bytes"};
    if (added && wanted.size != 0) held_.push_back(wanted);
    if (all_->all().size() != held_.size()) throw model::Violation{"recorded what it refused, or lost something"};
    if (held_.size() == Reservations::kCapacity) {
      all_ = std::make_unique<Reservations>();
      held_.clear();
    }
  }

 private:
  static bool holds(const Reservation& r, std::uint64_t byte) {
    return byte >= r.base.value() && byte - r.base.value() < r.size;
  }
  static bool clash(const Reservation& a, const Reservation& b) {
    for (std::uint64_t byte = 0; byte < 80; ++byte) {
      if (holds(a, byte) && holds(b, byte)) return !may_share(a, b);
    }
    return false;
  }

  model::Decide decide_;
  std::unique_ptr<Reservations> all_ = std::make_unique<Reservations>();
  std::vector<Reservation> held_;
};

TEST_CASE("reservations: random ones agree with a model of every byte") {
  run_randomly(random_operations(200'000), 1000,
               [](const model::Decide& decide) { return ReservationsDriver(decide); });
}

}  // namespace
}  // namespace cadastre
