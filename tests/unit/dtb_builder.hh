// Device trees for tests: written with libfdt, changed at will, and the one that QEMU's `virt` machine has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

namespace cadastre {

// A blob at an 8-byte aligned address.
class Blob {
 public:
  explicit Blob(std::size_t size) : words_((size + 7) / 8), size_(size) {}
  explicit Blob(std::span<const std::byte> bytes);
  [[nodiscard]] std::byte* data() { return reinterpret_cast<std::byte*>(words_.data()); }
  [[nodiscard]] std::span<std::byte> bytes() { return {data(), size_}; }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte*>(words_.data()), size_};
  }
  void resize(std::size_t size);

 private:
  std::vector<std::uint64_t> words_;
  std::size_t size_;
};

class DtbBuilder {
 public:
  DtbBuilder();

  // Before the first node.
  DtbBuilder& reserve(std::uint64_t base, std::uint64_t size);
  DtbBuilder& begin(const std::string& name);
  DtbBuilder& end();
  DtbBuilder& cells(const std::string& name, std::initializer_list<std::uint32_t> values);
  DtbBuilder& text(const std::string& name, const std::string& value);
  // Several strings, each with its zero.
  DtbBuilder& texts(const std::string& name, std::initializer_list<std::string> values);
  DtbBuilder& bytes(const std::string& name, std::span<const std::byte> value);
  DtbBuilder& flag(const std::string& name);
  // `reg` of one entry in 2 + 2 cells.
  DtbBuilder& reg(std::uint64_t base, std::uint64_t size);

  // After the last node has ended.
  [[nodiscard]] Blob finish();

 private:
  void begin_structure();
  Blob blob_;
  bool in_structure_ = false;
};

// What QEMU 7.2 writes for -M virt,virtualization=on,gic-version=2, as far as a hypervisor looks at it.
// `change` edits the blob afterwards (there is room) with libfdt's read-write functions.
struct VirtMachine {
  unsigned cpus = 1;
  std::uint64_t memory = 1ULL << 30;
  unsigned numa_nodes = 1;                                 // memory and CPUs are split evenly
  std::function<void(DtbBuilder&)> more = nullptr;         // nodes at the end of the root
  std::function<void(DtbBuilder&)> more_chosen = nullptr;  // in /chosen
  std::function<void(DtbBuilder&)> reservations = nullptr;
};
[[nodiscard]] Blob virt_dtb(const VirtMachine& machine = {});
// The same with `change` applied to it, open for writing.
[[nodiscard]] Blob virt_dtb(const VirtMachine& machine, const std::function<void(void* blob)>& change);

// Edits for `change`: `path` must exist.
void set_cells(void* blob, const char* path, const char* property, std::initializer_list<std::uint32_t> values);
void set_text(void* blob, const char* path, const char* property, const char* value);
void set_texts(void* blob, const char* path, const char* property, std::initializer_list<const char*> values);
void set_flag(void* blob, const char* path, const char* property);
void remove_property(void* blob, const char* path, const char* property);
void remove_node(void* blob, const char* path);

}  // namespace cadastre
