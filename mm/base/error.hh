// Why an operation of the memory manager failed. A layer that knows a name (a node, a file, a guest) adds it.
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>

namespace cadastre {

enum class Error : std::uint8_t {
  kNoMemory,    // nothing free satisfies the request
  kInvalid,     // the arguments make no sense: zero size, misaligned, wrapping
  kOutOfRange,  // outside of what this object manages
  kOverlap,     // something is there already
  kNotFound,    // nothing is there
  kBusy,        // in use, and cannot be given up now
  kLimit,       // a budget or a fixed capacity is used up
  kCorrupt,     // a free of what is not allocated, a broken red zone: the caller has a bug
};

[[nodiscard]] constexpr std::string_view to_string(Error error) {
  switch (error) {
    case Error::kNoMemory:
      return "out of memory";
    case Error::kInvalid:
      return "invalid argument";
    case Error::kOutOfRange:
      return "out of range";
    case Error::kOverlap:
      return "overlaps something that is there already";
    case Error::kNotFound:
      return "not found";
    case Error::kBusy:
      return "busy";
    case Error::kLimit:
      return "limit reached";
    case Error::kCorrupt:
      return "corrupt";
  }
  return "unknown error";
}

template <class T = void>
using Result = std::expected<T, Error>;

}  // namespace cadastre
