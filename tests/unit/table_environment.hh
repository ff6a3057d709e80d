// An environment for page tables whose memory is an array of pages and which keeps the order of what was
// asked of it.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "mm/base/address.hh"
#include "mm/base/error.hh"
#include "mm/translation/descriptor.hh"

namespace cadastre {

class LoggingTables {
 public:
  enum class Call : std::uint8_t { kStore, kClean, kDsb, kInvalidate, kFree };
  struct Record {
    Call call;
    Entry* entry = nullptr;
    Entry value = 0;
    PhysAddr table;
  };

  // The root takes the first pages; tables come after.
  static constexpr PhysAddr kRoot{0x7000'0000};

  explicit LoggingTables(unsigned pages = 4096) : pages_(pages) {
    memory_ = std::make_unique<Page[]>(pages);
    for (unsigned i = pages - 1; i >= 2; --i) free_.push_back(kRoot + std::uint64_t{i} * kPageSize);
  }

  // ---- The concept
  Result<PhysAddr> allocate_table() {
    if (fail_after_ == 0 || free_.empty()) return std::unexpected(Error::kNoMemory);
    --fail_after_;
    const PhysAddr table = free_.back();
    free_.pop_back();
    std::memset(table_at(table), 0, kPageSize);
    ++allocated_;
    return table;
  }
  void free_table(PhysAddr table) {
    log({Call::kFree, nullptr, 0, table});
    free_.push_back(table);
    --allocated_;
  }
  Entry* table_at(PhysAddr table) { return memory_[static_cast<std::size_t>((table - kRoot) / kPageSize)].entries; }
  Entry load(const Entry* entry) { return *entry; }
  void store(Entry* entry, Entry value) {
    log({Call::kStore, entry, value, {}});
    *entry = value;
  }
  void clean(Entry* entry, std::uint64_t) { log({Call::kClean, entry, 0, {}}); }
  void dsb() { log({Call::kDsb, nullptr, 0, {}}); }
  void invalidate(std::uint64_t, std::uint64_t) {
    ++invalidations_;
    log({Call::kInvalidate, nullptr, 0, {}});
  }

  // ---- What a test looks at
  [[nodiscard]] unsigned allocated() const { return allocated_; }
  [[nodiscard]] unsigned invalidations() const { return invalidations_; }
  // The allocation after the next `count` fails.
  void fail_after(unsigned count) { fail_after_ = count; }
  void never_fail() { fail_after_ = ~0U; }
  void start_log() {
    logging_ = true;
    log_.clear();
  }
  [[nodiscard]] const std::vector<Record>& records() const { return log_; }
  // "S0" a store of an invalid entry, "S" of a valid one, "C" clean, "D" DSB, "I" invalidation, "F" a table
  // freed.
  [[nodiscard]] std::string story() const {
    std::string text;
    for (const Record& record : log_) {
      if (!text.empty()) text += ' ';
      switch (record.call) {
        case Call::kStore:
          text += is_valid(record.value) ? "S" : "S0";
          break;
        case Call::kClean:
          text += "C";
          break;
        case Call::kDsb:
          text += "D";
          break;
        case Call::kInvalidate:
          text += "I";
          break;
        case Call::kFree:
          text += "F";
          break;
      }
    }
    return text;
  }
  // Everything that is in memory, to be compared.
  [[nodiscard]] std::vector<Entry> image() const {
    std::vector<Entry> image(std::size_t{pages_} * kEntriesPerTable);
    std::memcpy(image.data(), memory_.get(), image.size() * sizeof(Entry));
    return image;
  }

 private:
  struct alignas(kPageSize) Page {
    Entry entries[kEntriesPerTable];
  };
  void log(Record record) {
    if (logging_) log_.push_back(record);
  }

  unsigned pages_;
  std::unique_ptr<Page[]> memory_;
  std::vector<PhysAddr> free_;
  std::vector<Record> log_;
  unsigned allocated_ = 0;
  unsigned invalidations_ = 0;
  unsigned fail_after_ = ~0U;
  bool logging_ = false;
};

}  // namespace cadastre
