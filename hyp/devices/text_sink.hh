// Where a guest's output goes: the host's console as it is, or a line at a time with the guest's name.
#pragma once

#include <string_view>

namespace cadastre {

class TextSink {
 public:
  TextSink() = default;
  TextSink(const TextSink&) = delete;
  TextSink& operator=(const TextSink&) = delete;
  virtual void write(std::string_view text) = 0;

 protected:
  ~TextSink() = default;
};

}  // namespace cadastre
