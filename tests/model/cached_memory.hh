// RAM behind data caches, as bad as ARMv7 lets it be [ARMv7 A3.5.4, B2.2.2]. The hypervisor's loads and stores are plain C++ on the
// bytes of a FakeMachine: those are what the caches show. What memory itself holds is kept here, rubbish at first, and who reads
// past the caches sees that.
//
//   dirty  the caches show what memory does not hold: it is written back, over whatever memory holds by then, at any time or never
//   stale  memory was changed past the caches, which may go on showing what they had
//
// When a line is written back or dropped is decided by `decide`, at every access of a guest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "mm/base/address.hh"
#include "tests/model/choices.hh"
#include "tests/model/fake_machine.hh"

namespace cadastre::model {

class CachedMemory {
 public:
  static constexpr std::size_t kLine = 64;
  static constexpr std::byte kRubbish{0xb5};

  // `machine` outlives it.
  CachedMemory(FakeMachine& machine, Decide decide) : machine_(machine), decide_(std::move(decide)) {}

  // ---- A guest's word, through its own mapping: cacheable, or past the caches

  [[nodiscard]] std::uint32_t read(PhysAddr address, bool cacheable) {
    const Line& line = wander(address);
    std::uint32_t word;
    std::memcpy(&word, cacheable ? shown(address) : line.memory.data() + address.offset_in(kLine), sizeof(word));
    return word;
  }
  void write(PhysAddr address, std::uint32_t word, bool cacheable) {
    Line& line = wander(address);
    if (cacheable) {
      std::memcpy(shown(address), &word, sizeof(word));
      line.is_dirty = true;
      return;
    }
    const PhysAddr base = line_of(address);
    const bool was_dirty = is_dirty(line, base);
    std::memcpy(line.memory.data() + address.offset_in(kLine), &word, sizeof(word));
    if (was_dirty) {
      line.is_dirty = true;
    } else if (!line.is_stale) {
      // Whether the line was in the caches nobody knows: the CPU may have looked at it by itself.
      std::memcpy(line.last.data(), shown(base), kLine);
      line.is_stale = true;
      if (decide_(2) == 0) drop(line, base);
    }
  }

  // ---- Maintenance of the lines of [first, first + size)

  void clean(PhysAddr first, std::uint64_t size) {
    for_lines(first, size, [this](Line& line, PhysAddr base) { write_back(line, base); });
  }
  void clean_and_invalidate(PhysAddr first, std::uint64_t size) {
    for_lines(first, size, [this](Line& line, PhysAddr base) {
      write_back(line, base);
      drop(line, base);
    });
  }
  // Zeroes stored by the hypervisor: told, because a store of what is there already cannot be seen.
  void store_zeroes(PhysAddr first, std::uint64_t size) {
    for_lines(first, size, [this](Line& line, PhysAddr base) {
      std::memset(shown(base), 0, kLine);
      line.is_dirty = true;
    });
  }

 private:
  struct Line {
    Line() { memory.fill(kRubbish); }
    std::array<std::byte, kLine> memory;
    std::array<std::byte, kLine> last{};  // of a stale one: what the caches have of it
    bool is_dirty = false;                // or shows something that nothing else explains: a plain store
    bool is_stale = false;
  };

  [[nodiscard]] std::byte* shown(PhysAddr address) { return machine_.bytes_at(address); }
  [[nodiscard]] static PhysAddr line_of(PhysAddr address) { return address - address.offset_in(kLine); }
  [[nodiscard]] bool is_dirty(const Line& line, PhysAddr base) {
    return line.is_dirty || std::memcmp(shown(base), line.is_stale ? line.last.data() : line.memory.data(), kLine) != 0;
  }
  void write_back(Line& line, PhysAddr base) {
    if (!is_dirty(line, base)) return;
    std::memcpy(line.memory.data(), shown(base), kLine);
    line.is_dirty = line.is_stale = false;
  }
  // What is not dirty can go at any time.
  void drop(Line& line, PhysAddr base) {
    std::memcpy(shown(base), line.memory.data(), kLine);
    line.is_stale = false;
  }
  Line& wander(PhysAddr address) {
    const PhysAddr base = line_of(address);
    Line& line = lines_[base.value()];
    if (decide_(2) == 0) write_back(line, base);
    if (!is_dirty(line, base) && decide_(2) == 0) drop(line, base);
    return line;
  }
  template <class F>
  void for_lines(PhysAddr first, std::uint64_t size, F&& f) {
    for (PhysAddr base = line_of(first); base < first + size; base += kLine) f(lines_[base.value()], base);
  }

  FakeMachine& machine_;
  Decide decide_;
  std::unordered_map<std::uint64_t, Line> lines_;
};

}  // namespace cadastre::model
