// A guest's stage 2: its RAM, populated as it is touched, logged when it is written, copied when it is
// shared.
//
//                       fault at an IPA of the guest's RAM
//                                   |
//          nothing is mapped ------ + ------ something is mapped
//                  |                              |
//     a frame or block of the            rights are enough: spurious, retry
//     zone, scrubbed, mapped             copy on write: copy, map writable
//     writable (read-only and            write logged: mark dirty, map writable
//     logged if it is read               else: the guest may not
//     while the log runs)
//
// A fault is answered in three parts: `look` says what it needs, whoever calls gets that without the lock, and `commit` makes
// it the guest's, if it still is what is needed. Frames and their contents are the caller's business.
//
// Over PageTable (mm/translation/page_table.hh), whose rules hold here: the address space's lock is held; a failure
// changes nothing.
#pragma once

#include <algorithm>
#include <bit>
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

enum class FaultAnswer : std::uint8_t {
  kRetry,   // the guest's access works now
  kDenied,  // the guest may not do that: its own permission fault
  kMore,    // not yet: there is more to do
};

// What a fault needs before it can be answered.
struct FaultNeeds {
  enum class What : std::uint8_t {
    kNothing,  // `answer` is the answer
    kFrame,    // a scrubbed frame of level_size(level) bytes, aligned to that, to be mapped at `base`
    kCopy,     // a frame with the contents of `shared`, to be mapped at `base`; or that frame, if it has no other user
    kSplit,    // the leaf at `base` in leaves of `level`; then look again
  };
  What what = What::kNothing;
  FaultAnswer answer = FaultAnswer::kRetry;
  unsigned level = kLastLevel;
  unsigned tables = 0;  // table pages that the commit takes
  IpaAddr base;
  PhysAddr shared;
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

template <TableEnvironment Environment>
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

  // ---- Faults

  // What a fault at an address in `ram` needs, translation or permission. `may_split`: no for a caller that could not get the
  // tables for a split; a log then takes the whole block for dirty. kOutOfRange: not in `ram`.
  [[nodiscard]] Result<FaultNeeds> look(IpaAddr ipa, Access access, const RamRange& ram, bool may_split = true);
  // Does what was needed, with `frame`. False: something else has become of the address, so look again. kLimit: the budget of
  // tables is used up; kNoMemory: `needs.tables` were not enough.
  [[nodiscard]] Result<bool> commit(const FaultNeeds& needs, Access access, PhysAddr frame);
  // For kCopy when nobody else uses the shared frame any more: it becomes writable as it is.
  void commit_last_user(const FaultNeeds& needs);
  // For the hypervisor's own write to where a look for a write needs nothing: the physical address, marked dirty. Good for the
  // rest of its page.
  [[nodiscard]] PhysAddr begin_write(IpaAddr ipa);

  // ---- Teardown

  // Unmaps one block, or at most `budget` pages that are beside each other, at or after `from`, and gives each leaf to
  // visitor(IpaAddr, Mapping), once no TLB knows it. Returns where to go on, kInputSize at the end. Needs no memory.
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
  [[nodiscard]] FaultNeeds look_at_hole(IpaAddr ipa, unsigned hole, const RamRange& ram) const;
  [[nodiscard]] Result<bool> commit_frame(const FaultNeeds& needs, Access access, PhysAddr frame);
  // Rare, and large.
  [[nodiscard, gnu::noinline]] bool commit_copy(const FaultNeeds& needs, PhysAddr copy);
  [[nodiscard, gnu::noinline]] Result<bool> commit_split(const FaultNeeds& needs);
  [[nodiscard, gnu::noinline]] FaultNeeds look_at_leaf(IpaAddr ipa, Access access, const Mapping& mapping,
                                                       bool may_split);
  [[nodiscard]] bool is_copy_on_write(const FaultNeeds& needs) const;
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
