#include "mm/base/format.hh"

#include <array>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

template <class... Arguments>
std::string_view text(std::string_view format, const Arguments&... arguments) {
  static std::array<char, 64> buffer;
  return format_to(buffer, format, arguments...);
}

TEST_CASE("numbers print in decimal, addresses in hexadecimal") {
  CHECK_EQ(text("{} and {}", 42U, -7), "42 and -7");
  CHECK_EQ(text("at {}", PhysAddr(0x1'c000'0000)), "at 0x1c0000000");
  CHECK_EQ(text("{:x}", 255), "0xff");
}

TEST_CASE("numbers pad on the left, strings on the right when asked") {
  CHECK_EQ(text("[{:5}]", 42), "[   42]");
  CHECK_EQ(text("[{:-5}]", "ab"), "[ab   ]");
}

TEST_CASE("text that does not fit is cut off at the buffer's end") {
  std::array<char, 4> buffer{};
  CHECK_EQ(format_to(buffer, "{}", 123456), "1234");
}

}  // namespace
}  // namespace cadastre
