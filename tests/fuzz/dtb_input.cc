#include "tests/fuzz/dtb_input.hh"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "mm/base/check.hh"
#include "platform/dtb/device_tree.hh"

extern "C" {
#include <libfdt.h>
std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);
}

namespace cadastre {

GuardedBytes::GuardedBytes(std::span<const std::uint8_t> bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t readable = (bytes.size() + page) / page * page;
  size_ = readable + page;
  start_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(start_ != MAP_FAILED);
  auto* guard = static_cast<std::uint8_t*>(start_) + readable;
  CHECK(mprotect(guard, page, PROT_NONE) == 0);
  std::uint8_t* begin = guard - ((bytes.size() + 7) / 8 * 8);
  std::ranges::copy(bytes, begin);
  bytes_ = std::as_bytes(std::span(begin, bytes.size()));
}

GuardedBytes::~GuardedBytes() {
  munmap(start_, size_);
}

namespace {

// Changes the value of some property in place, so that the tree stays a tree. False when there is none. The tree is opened
// as everywhere else: fdt_check_full alone follows a null pointer when the header says version 15 or less.
bool mutate_property(std::span<std::uint8_t> blob, unsigned choice) {
  Refusals refusals;
  if (!DeviceTree::open(std::as_bytes(blob), refusals)) return false;
  std::vector<std::span<std::uint8_t>> values;
  for (int node = 0; node >= 0; node = fdt_next_node(blob.data(), node, nullptr)) {
    for (int at = fdt_first_property_offset(blob.data(), node); at >= 0;
         at = fdt_next_property_offset(blob.data(), at)) {
      int size = 0;
      const void* value = fdt_getprop_by_offset(blob.data(), at, nullptr, &size);
      if (value == nullptr || size <= 0) continue;
      const auto offset = static_cast<const std::uint8_t*>(value) - blob.data();
      values.push_back(blob.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(size)));
    }
  }
  if (values.empty()) return false;
  const auto value = values[choice % values.size()];
  LLVMFuzzerMutate(value.data(), value.size(), value.size());
  return true;
}

}  // namespace
}  // namespace cadastre

// Half of the changes go to a property's value, the others to any bytes.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                               unsigned seed) {
  if (seed % 2 == 0 && cadastre::mutate_property({data, size}, seed / 2)) return size;
  return LLVMFuzzerMutate(data, size, max_size);
}
