// Random operations on guests' stage 2, and the intention that they are held against: for each guest a plain array that
// says for every page which frame it has, with which attributes. The real table code runs on the model machine; after
// each operation every page must translate as intended, no TLB may hold more, no frame may be lost or in two hands, and
// what the guests wrote must be there.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "mm/translation/stage2.hh"
#include "tests/model/model_machine.hh"
#include "tests/model/stage2_faults.hh"

namespace cadastre::model {

enum class Operation : std::uint8_t {
  kFault,
  kMap,
  kUnmap,
  kUnmapSome,
  kRights,
  kType,
  kSplit,
  kMerge,
  kReplace,
  kShare,
  kStartLog,
  kFetchLog,
  kStopLog,
  kRelease,
  kPopulate,
};
inline constexpr unsigned kOperations = 15;

class Oracle {
 public:
  // Pages and blocks of 2 MiB, with all operations; or blocks of 2 MiB and 1 GiB, with those of the table alone.
  Oracle(const Decide& decide, Granularity granularity, unsigned cpus)
      : decide_(decide), machine_(decide, granularity, cpus), granularity_(granularity) {
    for (unsigned i = 0; i < Machine::kGuests; ++i) guests_.emplace_back(machine_, i);
  }

  [[nodiscard]] Machine& machine() { return machine_; }

  // One operation, its kind, guest, range and failures chosen; throws Violation.
  void step() {
    static constexpr Operation kCoarse[] = {Operation::kMap,    Operation::kUnmap,  Operation::kUnmapSome,
                                            Operation::kRights, Operation::kType,   Operation::kSplit,
                                            Operation::kMerge,  Operation::kReplace};
    auto operation = static_cast<Operation>(decide_(kOperations));
    if (granularity_.small_level != kLastLevel)
      operation = kCoarse[static_cast<std::size_t>(decide_(std::size(kCoarse)))];
    const auto guest = static_cast<unsigned>(decide_(Machine::kGuests));
    run(operation, guest);
  }

  void run(Operation operation, unsigned guest) {
    machine_.begin(static_cast<unsigned>(operation));
    if (decide_(6) == 0) machine_.fail_tables_after(static_cast<unsigned>(decide_(4)));
    guests_[guest].environment.frames_left = decide_(12) == 0 ? static_cast<unsigned>(decide_(3)) : ~0U;
    guest_ = &guests_[guest];
    id_ = guest;
    perform(operation);
    machine_.never_fail();
    for (Guest& each : guests_) each.environment.frames_left = ~0U;
    check();
  }

 private:
  struct Page {
    bool mapped = false;
    unsigned frame = 0;
    Stage2Attributes attributes;
  };
  struct Guest {
    Guest(Machine& machine, unsigned id)
        : environment(machine, id), stage2(environment, machine.root(id), ~0U), pages(Machine::kWindow) {}
    Environment environment;
    Stage2<Environment> stage2;
    std::vector<Page> pages;
    std::vector<std::uint32_t> log_words;
    unsigned log_first = 0;
    unsigned log_end = 0;
  };
  using Table = Stage2<Environment>::Table;

  void perform(Operation operation) {
    switch (operation) {
      case Operation::kFault:
        return fault();
      case Operation::kMap:
        return map();
      case Operation::kUnmap:
        return unmap();
      case Operation::kUnmapSome:
        return unmap_some();
      case Operation::kRights:
        return change_rights();
      case Operation::kType:
        return change_type();
      case Operation::kSplit:
        return split();
      case Operation::kMerge:
        return merge();
      case Operation::kReplace:
        return replace();
      case Operation::kShare:
        return share();
      case Operation::kStartLog:
        return start_log();
      case Operation::kFetchLog:
        return fetch_log();
      case Operation::kStopLog:
        return stop_log();
      case Operation::kRelease:
        return release();
      case Operation::kPopulate:
        return populate();
    }
  }

  // ---- Choices

  struct Range {
    unsigned first;
    unsigned count;
  };
  unsigned choose_granule() { return static_cast<unsigned>(decide_(Machine::kWindow)); }
  Range choose_range() {
    const unsigned first = choose_granule();
    const unsigned left = Machine::kWindow - first;
    switch (decide_(8)) {
      case 0:
        return {first / kSmallPerLarge * kSmallPerLarge, kSmallPerLarge};
      case 1:
        return {first, std::min(left, 1 + static_cast<unsigned>(decide_(900)))};
      case 2:
      case 3:
        return {first, std::min(left, 1 + static_cast<unsigned>(decide_(12)))};
      default:
        return {first, 1};
    }
  }
  [[nodiscard]] std::uint64_t bytes(unsigned granules) const { return granules * granularity_.size(); }
  [[nodiscard]] RamRange ram() const {
    return {machine_.address(0), bytes(Machine::kWindow), guest_->log_end != 0 ? kLastLevel : 2};
  }
  Page& page(unsigned granule) { return guest_->pages[granule]; }
  [[nodiscard]] bool is_logged(unsigned granule) const {
    return granule >= guest_->log_first && granule < guest_->log_end;
  }
  void forget(unsigned granule) {
    require(page(granule).mapped, "something was unmapped that was not mapped");
    page(granule).mapped = false;
  }
  // A visitor of what is unmapped.
  auto taker() {
    return [this](IpaAddr ipa, const Table::Mapping& mapping) {
      const auto count = static_cast<unsigned>(mapping.size() / granularity_.size());
      const unsigned first = machine_.granule_at(ipa);
      for (unsigned i = 0; i < count; ++i) forget(first + i);
      machine_.give_back(machine_.frame_at(mapping.address), count, id_);
    };
  }

  // ---- Operations

  void fault() {
    const unsigned granule = choose_granule();
    const auto access = static_cast<Access>(decide_(3));
    RamRange range = ram();
    if (decide_(2) == 0) range.largest_level = kLastLevel;
    const Page before = page(granule);
    const auto answer = serve_fault(guest_->stage2, guest_->environment, machine_.address(granule), access, range);
    if (!before.mapped) {
      if (answer) expect_population(granule, access == Access::kWrite);
      return;
    }
    if (!answer) {
      require(before.attributes.copy_on_write() && access == Access::kWrite, "a fault failed that needs no memory");
      return;
    }
    if (before.attributes.allow(access)) {
      require(*answer == FaultAnswer::kRetry, "an access that is allowed was denied");
    } else if (access == Access::kWrite && before.attributes.copy_on_write()) {
      require(*answer == FaultAnswer::kRetry, "a write to a shared page was denied");
      page(granule).frame = translated_frame(granule);
      page(granule).attributes = before.attributes.with_copy_on_write(false).with_write(true);
      const Machine::Frame& frame = machine_.frame(page(granule).frame);
      require(frame.owner == static_cast<int>(id_), "a shared page was made writable without a copy");
    } else if (access == Access::kWrite && before.attributes.write_logged()) {
      require(*answer == FaultAnswer::kRetry, "a write to a logged page was denied");
      const Range leaf = leaf_around(granule);
      for (unsigned i = leaf.first; i < leaf.first + leaf.count; ++i) {
        page(i).attributes = page(i).attributes.with_write(true).with_write_logged(false);
      }
    } else {
      require(*answer == FaultAnswer::kDenied, "an access that is not allowed was granted");
    }
  }
  // What a fault on nothing may have mapped: the leaf around it, all of it fresh.
  void expect_population(unsigned granule, bool write) {
    const Range leaf = leaf_around(granule);
    const unsigned frame = translated_frame(leaf.first);
    for (unsigned i = 0; i < leaf.count; ++i) {
      Page& each = page(leaf.first + i);
      require(!each.mapped, "a fault was served over something that was mapped");
      Stage2Attributes attributes = Stage2Attributes::ram();
      if (is_logged(leaf.first + i) && !write) attributes = attributes.with_write(false).with_write_logged(true);
      each = {true, frame + i, attributes};
    }
  }
  Table::Mapping mapping_of(unsigned granule) {
    const auto mapping = guest_->stage2.table().query(machine_.address(granule));
    if (!mapping) throw Violation{"nothing is mapped where something should be"};
    return *mapping;
  }
  Range leaf_around(unsigned granule) {
    const bool large = mapping_of(granule).level == granularity_.large_level();
    return large ? Range{granule / kSmallPerLarge * kSmallPerLarge, kSmallPerLarge} : Range{granule, 1};
  }
  unsigned translated_frame(unsigned granule) { return machine_.frame_at(mapping_of(granule).address); }

  void populate() {
    const Range range = choose_range();
    const RamRange limits{machine_.address(range.first), bytes(range.count), ram().largest_level};
    const auto done = populate_some(guest_->stage2, guest_->environment, limits.first, limits,
                                    1 + static_cast<unsigned>(decide_(64)));
    // What was populated before a failure stays: take it over.
    for (unsigned i = range.first; i < range.first + range.count; ++i) {
      if (!page(i).mapped && guest_->stage2.table().query(machine_.address(i))) expect_population(i, false);
    }
    const std::uint64_t end = done ? *done / granularity_.size() : 0;
    for (unsigned i = 0; i < end; ++i) require(page(range.first + i).mapped, "population left a hole");
  }

  void map() {
    const Range range = choose_range();
    const unsigned frame = machine_.find_free(range.count, range.first % kSmallPerLarge == 0 ? kSmallPerLarge : 1);
    if (frame == Machine::kFrames) return;
    bool overlap = false;
    for (unsigned i = 0; i < range.count; ++i) overlap = overlap || page(range.first + i).mapped;
    machine_.take(frame, range.count, id_);
    if (!overlap) {
      for (unsigned i = 0; i < range.count; ++i) machine_.contents(id_, range.first + i) = 0;
    }
    Stage2Attributes attributes = Stage2Attributes::ram();
    for (unsigned i = 0; i < range.count; ++i) {
      if (is_logged(range.first + i)) attributes = attributes.with_write(false).with_write_logged(true);
    }
    const Result<> mapped = guest_->stage2.table().map(machine_.address(range.first), machine_.frame_address(frame),
                                                       bytes(range.count), attributes, granularity_.large_level());
    require(!(mapped && overlap), "something was mapped over");
    if (!mapped) {
      require(overlap == (mapped.error() == Error::kOverlap), "the wrong error");
      machine_.give_back(frame, range.count, id_);
      return;
    }
    for (unsigned i = 0; i < range.count; ++i) page(range.first + i) = {true, frame + i, attributes};
  }

  void unmap() {
    const Range range = choose_range();
    const Result<> done = guest_->stage2.table().unmap(machine_.address(range.first), bytes(range.count), taker());
    if (!done) return;
    for (unsigned i = 0; i < range.count; ++i) require(!page(range.first + i).mapped, "something was not unmapped");
  }
  void unmap_some() {
    const Range range = choose_range();
    const auto done = guest_->stage2.table().unmap_some(machine_.address(range.first), bytes(range.count),
                                                        1 + static_cast<unsigned>(decide_(600)), taker());
    if (!done) return;
    require(*done != 0 && *done <= bytes(range.count), "a step made no progress");
    for (unsigned i = 0; i < *done / granularity_.size(); ++i) {
      require(!page(range.first + i).mapped, "something was not unmapped");
    }
  }

  void change_rights() {
    const bool write = guest_->log_end == 0 && decide_(2) == 0;
    const bool execute = decide_(2) == 0;
    change([=](Stage2Attributes a) {
      if (a.copy_on_write() || a.write_logged()) return a.with_execute(execute);
      return a.with_write(write && a.readable()).with_execute(execute);
    });
  }
  void change_type() {
    static constexpr Stage2Memory kTypes[] = {Stage2Memory::kNormal, Stage2Memory::kDevice,
                                              Stage2Memory::kNonCacheable};
    const Entry memory = static_cast<Entry>(kTypes[static_cast<std::size_t>(decide_(3))]) << 2;
    change([=](Stage2Attributes a) { return Stage2Attributes::from_bits((a.bits() & ~(Entry{0xf} << 2)) | memory); });
  }
  template <class F>
  void change(F&& f) {
    const Range range = choose_range();
    const auto done =
        guest_->stage2.table().protect_some(machine_.address(range.first), bytes(range.count),
                                            decide_(3) == 0 ? 1 + static_cast<unsigned>(decide_(300)) : ~0U,
                                            [&](const Table::Mapping& mapping) { return f(mapping.attributes); });
    if (!done) return;
    for (unsigned i = 0; i < *done / granularity_.size(); ++i) {
      Page& each = page(range.first + i);
      if (each.mapped) each.attributes = f(each.attributes);
    }
  }

  void split() {
    const unsigned granule = choose_granule();
    const Result<> done = guest_->stage2.table().split(machine_.address(granule), granularity_.small_level);
    require(page(granule).mapped || !done, "nothing was split");
  }
  void merge() {
    switch (decide_(4)) {
      case 0:
        static_cast<void>(guest_->stage2.merge_some(machine_.address(choose_granule()).value(), 4));
        return;
      case 1:
        return merge_step();
      default:
        break;
    }
    const Result<> merged =
        guest_->stage2.table().merge(machine_.address(choose_granule()), granularity_.large_level());
    require(merged || merged.error() == Error::kBusy || merged.error() == Error::kNotFound, "the wrong error");
  }

  // What a log has left protected may have become writable where the step has been; not while a log watches.
  void merge_step() {
    guest_->stage2.merge_step(static_cast<unsigned>(1 + decide_(4)), granularity_.large_level());
    if (guest_->log_end != 0) return;
    for (unsigned i = 0; i < Machine::kWindow; ++i) {
      Stage2Attributes& intended = page(i).attributes;
      if (!page(i).mapped || !intended.write_logged()) continue;
      const Stage2Attributes unlogged = intended.with_write(true).with_write_logged(false);
      if (mapping_of(i).attributes == unlogged) intended = unlogged;
    }
  }

  // Moves a leaf to other frames under its guest's feet.
  void replace() {
    const unsigned granule = choose_granule();
    if (!page(granule).mapped || page(granule).attributes.copy_on_write()) return;
    const Range leaf = leaf_around(granule);
    const unsigned target = machine_.find_free(leaf.count, leaf.count);
    if (target == Machine::kFrames) return;
    const unsigned source = page(leaf.first).frame;
    machine_.take(target, leaf.count, id_, true);
    const Result<> done = guest_->stage2.table().replace(machine_.address(granule), [&](const Table::Mapping& old) {
      for (unsigned i = 0; i < leaf.count; ++i)
        machine_.frame(target + i).contents = machine_.frame(source + i).contents;
      return Table::Leaf{machine_.frame_address(target), old.attributes};
    });
    require(done.has_value(), "a leaf could not be replaced");
    for (unsigned i = 0; i < leaf.count; ++i) page(leaf.first + i).frame = target + i;
    machine_.give_back(source, leaf.count, id_);
  }

  // Shares a page of this guest with the other one.
  void share() {
    const unsigned granule = choose_granule();
    const unsigned theirs = choose_granule();
    Guest& other = guests_[1 - id_];
    if (!page(granule).mapped || other.pages[theirs].mapped || other.log_end != 0) return;
    if (!guest_->stage2.share(machine_.address(granule), bytes(1))) return;
    Page& mine = page(granule);
    mine.attributes = mine.attributes.with_write_logged(false).with_write(false).with_copy_on_write(true);
    Machine::Frame& frame = machine_.frame(mine.frame);
    if (frame.owner != Machine::kShared) {
      frame.owner = Machine::kShared;
      frame.users = 1;
    }
    machine_.contents(1 - id_, theirs) = frame.contents;
    const Stage2Attributes attributes = Stage2Attributes::ram().with_write(false).with_copy_on_write(true);
    if (!other.stage2.table().map(machine_.address(theirs), machine_.frame_address(mine.frame), bytes(1), attributes)) {
      return;
    }
    ++frame.users;
    other.pages[theirs] = {true, mine.frame, attributes};
  }

  void start_log() {
    if (guest_->log_end != 0) return;
    const unsigned level = decide_(2) == 0 ? 2 : kLastLevel;
    const unsigned granule = level == 2 ? kSmallPerLarge : 1;
    const unsigned first = choose_granule() / granule * granule;
    const unsigned count = (Machine::kWindow - first) / granule * granule;
    guest_->log_words.assign(DirtyLog::words_for(bytes(count), level), ~0U);
    // A block that the border of the log cuts would be protected as a whole.
    require(guest_->stage2.start_log(machine_.address(first), bytes(count), level, guest_->log_words).has_value(),
            "a log could not be started");
    guest_->log_first = first;
    guest_->log_end = first + count;
    for (std::uint64_t done = 0; done < bytes(count);) {
      done = guest_->stage2.protect_log_some(done, 1 + static_cast<unsigned>(decide_(500)));
      machine_.check_settled();
    }
    protect_logged(first, first + count);
  }
  void protect_logged(unsigned first, unsigned end) {
    for (unsigned i = first; i < end; ++i) {
      if (!page(i).mapped) continue;
      const Range leaf = leaf_around(i);
      for (unsigned j = leaf.first; j < leaf.first + leaf.count; ++j) {
        Stage2Attributes& attributes = page(j).attributes;
        if (attributes.writable()) attributes = attributes.with_write(false).with_write_logged(true);
      }
    }
  }
  void fetch_log() {
    if (guest_->log_end == 0) return;
    const DirtyLog& log = guest_->stage2.dirty_log();
    const auto per_word =
        static_cast<unsigned>(DirtyLog::kGranulesPerWord * level_size(log.level()) / granularity_.size());
    const auto first = static_cast<std::size_t>(decide_(log.words()));
    std::vector<std::uint32_t> out(static_cast<std::size_t>(1 + decide_(log.words())));
    const std::size_t count = guest_->stage2.fetch_log(first, out);
    for (std::size_t word = 0; word < count; ++word) {
      for (unsigned bit = 0; bit < 32; ++bit) {
        if ((out[word] >> bit & 1) == 0) continue;
        const unsigned each = per_word / 32;
        const unsigned from = guest_->log_first + static_cast<unsigned>(first + word) * per_word + bit * each;
        protect_logged(from, std::min(from + each, guest_->log_end));
      }
    }
  }
  void stop_log() {
    if (guest_->log_end == 0) return;
    guest_->stage2.stop_log();
    guest_->log_first = guest_->log_end = 0;
    // All at once, or as each is written.
    if (decide_(2) == 0) return;
    for (std::uint64_t done = 0; done < bytes(Machine::kWindow);) {
      const auto step = guest_->stage2.unprotect_some(machine_.address(0) + done, bytes(Machine::kWindow) - done,
                                                      1 + static_cast<unsigned>(decide_(900)));
      require(step.has_value(), "a log could not be undone");
      done += *step;
      machine_.check_settled();
    }
    for (Page& each : guest_->pages) {
      if (each.mapped && each.attributes.write_logged()) {
        each.attributes = each.attributes.with_write(true).with_write_logged(false);
      }
    }
  }

  void release() {
    if (decide_(4) != 0) return;
    for (std::uint64_t at = 0; at < Table::kInputSize;) {
      at = guest_->stage2.release_some(at, 1 + static_cast<unsigned>(decide_(600)), taker());
      machine_.check_settled();
    }
    for (const Page& each : guest_->pages) require(!each.mapped, "something survived the teardown");
  }

  // ---- What must hold after each operation

  void check() {
    machine_.check_settled();
    for (unsigned id = 0; id < Machine::kGuests; ++id) {
      const Guest& guest = guests_[id];
      std::size_t found = 0;
      machine_.for_each_leaf(id, [&](IpaAddr base, unsigned level, Entry entry) {
        const unsigned first = machine_.granule_at(base);
        const unsigned frame = machine_.frame_at(entry_address(entry));
        const auto count = static_cast<unsigned>(level_size(level) / granularity_.size());
        require(count != 0, "a leaf is smaller than anything that was mapped");
        found += count;
        for (unsigned i = 0; i < count; ++i) check_page(guest, id, first + i, frame + i, entry);
      });
      const auto intended =
          static_cast<std::size_t>(std::ranges::count_if(guest.pages, [](const Page& page) { return page.mapped; }));
      require(found == intended, "a page is mapped that should not be, or is not that should");
      machine_.check_tables(id, guest.stage2.table().tables());
    }
    check_frames();
  }
  void check_page(const Guest& guest, unsigned id, unsigned granule, unsigned frame, Entry entry) {
    const Page& intended = guest.pages[granule];
    require(intended.mapped, "a page is mapped that should not be");
    require(intended.frame == frame, "a page has the wrong frame");
    require(intended.attributes.bits() == leaf_attributes(entry), "a page has the wrong attributes");
    const Machine::Frame& target = machine_.frame(frame);
    require(target.owner == static_cast<int>(id) || target.owner == Machine::kShared,
            "a page has a frame of another guest");
    require(target.owner != Machine::kShared || !intended.attributes.writable(), "a shared page is writable");
    require(target.contents == machine_.contents(id, granule), "a page does not hold what its guest wrote");
    const bool unseen = granule >= guest.log_first && granule < guest.log_end && intended.attributes.writable() &&
                        !guest.stage2.dirty_log().is_dirty(machine_.address(granule));
    require(!unseen, "a write would go unseen by the dirty log");
  }
  // No frame is lost: as many are taken as are mapped.
  void check_frames() {
    if (++checks_ % 16 != 0) return;
    std::vector<unsigned> users(Machine::kFrames);
    for (const Guest& guest : guests_) {
      for (const Page& each : guest.pages) users[each.frame] += each.mapped ? 1 : 0;
    }
    for (unsigned i = 0; i < Machine::kFrames; ++i) {
      const Machine::Frame& frame = machine_.frame(i);
      const unsigned expected = frame.owner == Machine::kFree ? 0 : frame.owner == Machine::kShared ? frame.users : 1;
      require(users[i] == expected, "a frame was lost, or has more users than it knows");
    }
  }

  Decide decide_;
  Machine machine_;
  Granularity granularity_;
  std::deque<Guest> guests_;
  Guest* guest_ = nullptr;
  unsigned id_ = 0;
  unsigned checks_ = 0;
};

}  // namespace cadastre::model
