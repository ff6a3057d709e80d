// HYP's table, once for all.
#include "arch/armv7/hyp_environment.hh"
#include "mm/translation/page_table_change.hh"

namespace cadastre {

template class PageTable<HypGeometry, arch::HypEnvironment>;

}  // namespace cadastre
