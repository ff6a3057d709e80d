// `toucher [before=MS] [after=MS]`: waits, writes a word of every page of its RAM that it does not have already, keeps all of it for a
// while, and looks whether each page still has its word.
#include "guest/common/machine.hh"
#include "guest/common/memory.hh"
#include "guest/common/print.hh"
#include "guest/hostile/role.hh"

namespace cadastre::guest {
namespace {

void wait(std::uint32_t milliseconds) {
  Stretch::of_microseconds(1000 * milliseconds).spin_out();
}

template <class Function>
void for_each_page(Function&& function) {
  for (std::uint64_t page = untouched_ram(); page < ram_end(); page += kPage) {
    function(*words_at(static_cast<std::uint32_t>(page)), static_cast<std::uint32_t>(page));
  }
}

}  // namespace

void touch() {
  wait(number_of("before", 0));
  for_each_page([](volatile std::uint32_t& word, std::uint32_t page) { word = page; });
  say("touched all of its RAM");
  wait(number_of("after", 0));
  for_each_page([](volatile std::uint32_t& word, std::uint32_t page) {
    if (word != page) fail("RAM at ", Hex{page}, " does not hold what was written");
  });
}

}  // namespace cadastre::guest
