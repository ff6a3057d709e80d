#include "mm/base/range.hh"

#include <expected>
#include <vector>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

struct Piece {
  std::uint64_t at;
  std::size_t before;
  std::size_t size;
  friend bool operator==(const Piece&, const Piece&) = default;
};

template <class A>
std::vector<Piece> pieces_of(A base, std::uint64_t size) {
  std::vector<Piece> pieces;
  for_each_piece(base, size,
                 [&](A at, std::size_t before, std::size_t part) { pieces.push_back({at.value(), before, part}); });
  return pieces;
}

TEST_CASE("a range's pieces are its bytes page by page, in order") {
  CHECK(pieces_of(PhysAddr(0x1ff0), 0).empty());
  CHECK(pieces_of(PhysAddr(0x1ff0), 0x10) == std::vector<Piece>{{0x1ff0, 0, 0x10}});
  CHECK(pieces_of(PhysAddr(0x1ff0), 0x1020) ==
        std::vector<Piece>{{0x1ff0, 0, 0x10}, {0x2000, 0x10, 0x1000}, {0x3000, 0x1010, 0x10}});
  CHECK(pieces_of(PhysAddr(0xff'ffff'f000), 0x1000) == std::vector<Piece>{{0xff'ffff'f000, 0, 0x1000}});
}

TEST_CASE("a guest's addresses wrap at 4 GiB, as its CPU's do") {
  CHECK(pieces_of(GuestVirtAddr(0xffff'fff8), 0x10) == std::vector<Piece>{{0xffff'fff8, 0, 8}, {0, 8, 8}});
}

TEST_CASE("the first piece that fails ends it, and what it says is the answer") {
  std::size_t seen = 0;
  const auto fails_at = [&](std::uint64_t address) {
    seen = 0;
    return for_each_piece(PhysAddr(0x800), 0x2000,
                          [&](PhysAddr at, std::size_t, std::size_t) -> std::expected<void, int> {
                            ++seen;
                            if (at.value() == address) return std::unexpected(7);
                            return {};
                          });
  };
  CHECK(fails_at(0x1000).error() == 7);
  CHECK(seen == 2);
  CHECK(fails_at(0x5000).has_value());
  CHECK(seen == 3);
}

}  // namespace
}  // namespace cadastre
