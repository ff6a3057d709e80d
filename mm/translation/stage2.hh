// A guest's stage 2: its RAM, populated as it is touched, logged when it is written, copied when it is
// shared.
//
//                       fault at an IPA of the guest's RAM
//                                   |
//          nothing is mapped ------ + ------ something is mapped
//                  |                              |
//     a frame or block of the            rights are enough: spurious, retry
//     zone, zeroed, mapped               copy on write: copy, map writable
//     writable (read-only and            write logged: mark dirty, map writable
//     logged if it is read               else: the guest may not
//     while the log runs)
//
// Over PageTable (mm/translation/page_table.hh), whose rules hold here: the address space's lock is held; a failure
// changes nothing.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "mm/base/access.hh"
#include "mm/base/address.hh"
#include "mm/base/check.hh"
#include "mm/base/error.hh"
#include "mm/translation/descriptor.hh"
#include "mm/translation/dirty_log.hh"
#include "mm/translation/page_table.hh"
#include "mm/translation/stage2_format.hh"

namespace cadastre {

// What Stage2 needs beyond a table's environment: where a guest's frames come from and go to.
template <class E>
concept Stage2Environment =
    TableEnvironment<E> && requires(E& environment, IpaAddr ipa, PhysAddr frame, unsigned level) {
      // A zeroed frame of this guest for `ipa`, of level_size(level) bytes, aligned to that; or kNoMemory.
      { environment.allocate_frame(ipa, level) } -> std::same_as<Result<PhysAddr>>;
      // Takes back one that no TLB knows: its mapping failed, or was undone.
      environment.free_frame(frame, level);
      // A frame of this guest's own with the contents of the page `frame`, which is shared: a copy, or
      // `frame` itself when nobody else uses it any more.
      { environment.private_copy(ipa, frame) } -> std::same_as<Result<PhysAddr>>;
      // This guest no longer maps the shared page `frame`.
      environment.drop_shared(frame);
    };

enum class FaultAnswer : std::uint8_t {
  kRetry,   // the guest's access works now
  kDenied,  // the guest may not do that: its own permission fault
};

// A part of the guest's address space that is RAM, and the largest leaf that it is populated with (1, 2 or
// 3).
struct RamRange {
  IpaAddr first;
  std::uint64_t size;
  unsigned largest_level = kLastLevel;
  [[nodiscard]] bool contains(IpaAddr ipa, std::uint64_t bytes = 1) const {
    return ipa >= first && bytes <= size && ipa - first <= size - bytes;
  }
};

template <Stage2Environment Environment>
class Stage2 {
 public:
  using Table = PageTable<Stage2Geometry, Environment>;
  using Mapping = typename Table::Mapping;
  static constexpr std::uint64_t kInputSize = Table::kInputSize;
  static constexpr std::size_t kRootBytes = Table::kRootBytes;

  // `root`: kRootBytes of zeroes, aligned to that, the caller's. `table_limit`: how many table pages this
  // guest may make the hypervisor spend.
  Stage2(Environment& environment, PhysAddr root, unsigned table_limit)
      : environment_(environment), table_(environment, root) {
    table_.set_table_limit(table_limit);
  }

  [[nodiscard]] Table& table() { return table_; }
  [[nodiscard]] const Table& table() const { return table_; }
  [[nodiscard]] const DirtyLog& dirty_log() const { return log_; }

  // ---- Population

  // Answers a stage-2 fault at an address in `ram`, translation or permission. kNoMemory: no frame; kLimit:
  // the budget of tables is used up; kOutOfRange: not in `ram`.
  [[nodiscard]] Result<FaultAnswer> serve_fault(IpaAddr ipa, Access access, const RamRange& ram);
  // Populates what is not mapped yet from `from` on, about `budget` leaves; returns the bytes done, from
  // `from`. What was populated before an error stays.
  [[nodiscard]] Result<std::uint64_t> populate_some(IpaAddr from, const RamRange& ram, unsigned budget);
  // The physical address behind `ipa`, for the hypervisor to write to (load an image, complete a device's
  // request): populated if need be, private, and marked dirty. Good for the rest of its page.
  [[nodiscard]] Result<PhysAddr> prepare_write(IpaAddr ipa, const RamRange& ram);

  // ---- Teardown

  // Unmaps about `budget` leaves at or after `from` and gives each to visitor(IpaAddr, Mapping), once no TLB
  // knows it. Returns where to go on, kInputSize at the end. Needs no memory.
  template <class Visitor>
  [[nodiscard]] std::uint64_t release_some(std::uint64_t from, unsigned budget, Visitor&& visitor);
  // For all of what is mapped at or after `from`, about `budget` leaves: cache maintenance by set/way becomes
  // a clean of these. Returns where to go on.
  template <class Visitor>
  [[nodiscard]] std::uint64_t visit_some(std::uint64_t from, unsigned budget, Visitor&& visitor) const;

  // ---- Copy on write

  // Makes the pages of a range read-only until the first write, which copies. The caller has counted the
  // frames as shared. Fails without a change.
  [[nodiscard]] Result<> share(IpaAddr first, std::uint64_t size);

  // ---- Dirty log

  // See DirtyLog::start. Then protect_some until all of the range is done; from then on no write goes unseen.
  [[nodiscard]] Result<> start_log(IpaAddr first, std::uint64_t size, unsigned level, std::span<std::uint32_t> words) {
    return log_.start(first, size, level, words);
  }
  // Write-protects what the log covers, from `done` bytes into it, about `budget` leaves; returns the new
  // `done`.
  [[nodiscard]] std::uint64_t protect_log_some(std::uint64_t done, unsigned budget);
  // Copies the bits from word `first_word` on to `out`, clears them, and write-protects anew what was dirty:
  // when it returns, any later write will be seen, and every earlier one is in memory. Returns the words
  // copied.
  std::size_t fetch_log(std::size_t first_word, std::span<std::uint32_t> out);
  // Stops logging: the words are the caller's again. What is still protected becomes writable when it is
  // written, or by unprotect_some.
  void stop_log() {
    log_.stop();
    merge_from_ = 0;
  }
  [[nodiscard]] Result<std::uint64_t> unprotect_some(IpaAddr first, std::uint64_t size, unsigned budget);

  // ---- Merging

  // Merges back what can be, from `from` on, looking at about `budget` tables, into leaves of at most
  // level_size(largest_level). Returns where to go on.
  [[nodiscard]] std::uint64_t merge_some(std::uint64_t from, unsigned budget, unsigned largest_level = 1);
  // For the background: a step of about `budget` tables towards no leaf being smaller than it must be. What a log has
  // left write-protected becomes writable. False when all is done, until a log stops or a shared page has no other user
  // any more; nothing is done while a log watches.
  bool merge_step(unsigned budget, unsigned largest_level);

 private:
  [[nodiscard]] Result<> populate(IpaAddr ipa, Access access, const RamRange& ram);
  [[nodiscard]] Result<> copy_on_write(IpaAddr ipa, const Mapping& mapping);
  void log_write(IpaAddr ipa, const Mapping& mapping);
  void change_leaf(IpaAddr ipa, Stage2Attributes attributes);
  [[nodiscard]] static Stage2Attributes logged(Stage2Attributes attributes) {
    return attributes.writable() ? attributes.with_write(false).with_write_logged(true) : attributes;
  }
  [[nodiscard]] static Stage2Attributes unlogged(Stage2Attributes attributes) {
    return attributes.write_logged() ? attributes.with_write(true).with_write_logged(false) : attributes;
  }

  Environment& environment_;
  Table table_;
  DirtyLog log_;
  std::uint64_t merge_from_ = kInputSize;  // where merge_step goes on
};

}  // namespace cadastre

#include "mm/translation/stage2_operations.hh"  // IWYU pragma: export
