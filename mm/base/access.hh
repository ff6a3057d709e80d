// What somebody wants of an address.
#pragma once

#include <cstdint>

namespace cadastre {

enum class Access : std::uint8_t { kRead, kWrite, kExecute };
enum class Privilege : std::uint8_t { kUser, kPrivileged };  // PL0, PL1

}  // namespace cadastre
