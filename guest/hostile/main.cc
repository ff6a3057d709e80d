#include <algorithm>
#include <array>
#include <string_view>

#include "guest/common/guest.hh"
#include "guest/common/machine.hh"
#include "guest/common/print.hh"
#include "guest/hostile/role.hh"

namespace cadastre::guest {
namespace {

struct Role {
  std::string_view name;
  void (*play)();
};

constexpr std::array kRoles = {
    Role{"translator", translate}, Role{"spinner", spin},  Role{"waker", wake},
    Role{"sleeper", sleep},        Role{"kicker", kick},   Role{"resetter", reset},
    Role{"toucher", touch},        Role{"watcher", watch}, Role{"second-cpu", second_cpu},
};

}  // namespace

const std::string_view guest_name = "hostile";

void run_guest() {
  const std::string_view name = machine.bootargs.substr(0, machine.bootargs.find(' '));
  const auto* role = std::ranges::find(kRoles, name, &Role::name);
  if (role == kRoles.end()) fail("no role '", name, "'");
  say("is a ", role->name);
  role->play();
  say("ok");
  system_off();
}

}  // namespace cadastre::guest
