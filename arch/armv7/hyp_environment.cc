#include "arch/armv7/hyp_environment.hh"

namespace cadastre::arch {

static_assert(TableEnvironment<HypEnvironment>);

std::array<HypEnvironment::TablePage, HypEnvironment::kEarlyTables> HypEnvironment::early_tables_;

Result<PhysAddr> HypEnvironment::allocate_table() {
  if (early_used_ < kEarlyTables) return image_address(&early_tables_[early_used_++]);
  if (allocate_ == nullptr) return std::unexpected(Error::kNoMemory);
  return allocate_();
}

void HypEnvironment::free_table(PhysAddr table) {
  // An early table does not come back: it is a page of the image.
  if (table - image_ >= layout::kImageSize && free_ != nullptr) free_(table);
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
