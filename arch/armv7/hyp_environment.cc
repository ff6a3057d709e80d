#include "arch/armv7/hyp_environment.hh"

#include <bit>

namespace cadastre::arch {

static_assert(TableEnvironment<HypEnvironment>);

std::array<HypEnvironment::TablePage, HypEnvironment::kEarlyTables> HypEnvironment::early_tables_;

Result<PhysAddr> HypEnvironment::allocate_table() {
  if (early_free_ != 0) {
    const auto number = static_cast<unsigned>(std::countr_zero(early_free_));
    early_free_ &= early_free_ - 1;
    early_tables_[number] = {};
    return image_address(&early_tables_[number]);
  }
  if (allocator_.allocate == nullptr) return std::unexpected(Error::kNoMemory);
  return allocator_.allocate();
}

void HypEnvironment::free_table(PhysAddr table) {
  const std::uint64_t offset = table - image_address(early_tables_.data());
  if (offset < sizeof early_tables_) {
    early_free_ |= std::uint32_t{1} << (offset >> kPageShift);
  } else {
    allocator_.free(table);
  }
}

void HypEnvironment::invalidate(std::uint64_t first, std::uint64_t size) {
  constexpr std::uint64_t kManyPages = 64;
  if (size > kManyPages * kPageSize) {
    TLBIALLHIS::write(0);
    return;
  }
  for (std::uint64_t at = first; at < first + size; at += kPageSize) TLBIMVAHIS::write(static_cast<std::uint32_t>(at));
}

}  // namespace cadastre::arch
