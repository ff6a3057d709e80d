// Guests' memory over a real page allocator: random faults, writes, sharing, release in any order, with requests that fail.
// What each guest wrote is held against what it would read; every frame's owner and sharers against the tables; every frame
// that a guest has never written must be zero; and nothing is lost at the end.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "mm/guest/guest_memory.hh"
#include "mm/translation/fault.hh"
#include "tests/model/choices.hh"
#include "tests/model/fake_machine.hh"

namespace cadastre::model {

// GuestMemoryOperations on a FakeMachine; counts what the tests ask for.
class FakeGuestOperations {
 public:
  // All guests of a test are on one machine.
  static inline PageAllocator<FakeMachine>* pages = nullptr;
  static inline unsigned scrubbed_pages = 0;
  static inline std::uint32_t longest_scrub = 0;
  static inline bool keeps_contents = false;  // for more memory than the host should have to have

  static Result<PhysAddr> allocate_table() {
    const Result<Pfn> page = pages->alloc(0, kZero | kNoWarn);
    if (!page) return std::unexpected(page.error());
    return address_of(*page);
  }
  static void free_table(PhysAddr table) {
    std::memset(table_at(table), 0, kPageSize);
    pages->free(frame_of(table), 0);
  }
  static Entry* table_at(PhysAddr table) { return reinterpret_cast<Entry*>(pages->machine().linear(table)); }
  static Entry load(const Entry* entry) { return *entry; }
  static void store(Entry* entry, Entry value) { *entry = value; }
  static void clean(Entry*, std::uint64_t) {}
  static void dsb() {}
  void invalidate(std::uint64_t, std::uint64_t) { ++invalidations; }

  static void scrub(Pfn first, std::uint32_t count) {
    scrubbed_pages += count;
    longest_scrub = std::max(longest_scrub, count);
    if (keeps_contents) return;
    for (std::uint32_t i = 0; i < count; ++i) std::memset(bytes(first + i), 0, kPageSize);
  }
  static void copy(Pfn to, Pfn from) { std::memcpy(bytes(to), bytes(from), kPageSize); }
  static void clean_pages(Pfn, std::uint32_t) {}
  static void write(PhysAddr to, std::span<const std::byte> from) {
    std::memcpy(bytes(frame_of(to)) + to.offset_in(kPageSize), from.data(), from.size());
  }

  unsigned invalidations = 0;

 private:
  static std::byte* bytes(Pfn page) { return pages->machine().bytes_at(address_of(page)); }
};

// What the hypervisor and the tests' guests see of it.
class FakeGuestMemory : public BasicGuestMemory<FakeGuestOperations, FakeMachine> {
 public:
  using BasicGuestMemory::BasicGuestMemory;
  [[nodiscard]] OwnerId number() const { return number_; }
  [[nodiscard]] Stage2Tables& stage2() NO_THREAD_SAFETY_ANALYSIS { return stage2_; }
};

class GuestDriver {
 public:
  static constexpr IpaAddr kRam{0x4000'0000};
  static constexpr std::uint64_t kRamSize = 3 * kBlockSize + 5 * kPageSize;

  GuestDriver(Decide decide, unsigned guests)
      : decide_(std::move(decide)),
        machine_({{.base = kBase, .size = kSize}}, PhysAddr(kBase + kSize / 2)),
        pages_(machine_) {
    require(memblock_.add(PhysAddr(kBase), kSize) &&
                memblock_.reserve(PhysAddr(kAreaBase), kAreaSize, kNoNode, MemblockFlags::kPool),
            "memblock");
    memblock_.set_current_limit(address_of(machine_.high_memory()));
    require(pages_.init(memblock_, {.dma_limit = PhysAddr(kBase + kSize)}).has_value(), "no pages");
    pages_.release(memblock_);
    // Some of what guests get is lent.
    require(pages_.adopt_cma(frame_of(PhysAddr(kAreaBase)), frame_of(PhysAddr(kAreaBase + kAreaSize))).has_value(),
            "no area");
    require(slabs_.init().has_value() && sharers_.init().has_value(), "no slabs");
    FakeGuestOperations::pages = &pages_;
    free_ = used();
    for (unsigned i = 0; i < guests; ++i) guests_.push_back(std::make_unique<Guest>());
    is_failing_ = decide_(2) == 0;
    if (is_failing_) pages_.set_fault_injector(&failing_);
  }
  ~GuestDriver() { FakeGuestOperations::pages = nullptr; }
  GuestDriver(const GuestDriver&) = delete;
  GuestDriver& operator=(const GuestDriver&) = delete;

  void step() {
    const auto number = static_cast<unsigned>(decide_(guests_.size()));
    Guest& guest = *guests_[number];
    if (!guest.memory) return start(guest, static_cast<OwnerId>(number + 1));
    if (decide_(6) == 0) failing_.arm(static_cast<std::uint32_t>(decide_(5)));
    operate(guest);
    failing_.disarm();
    if (++steps_ % 8 == 0) audit();
  }
  void finish() {
    audit();
    for (auto& guest : guests_) {
      if (guest->memory) end(*guest);
    }
    pages_.drain(0);
    require(sharer_count() == 0, "somebody is still listed as a sharer");
    require(used() <= free_ + 8, "frames were lost");  // slabs keep some of theirs
  }

 private:
  static constexpr std::uint64_t kBase = std::uint64_t{1} << 30U;
  static constexpr std::uint64_t kSize = std::uint64_t{40} << 20U;
  static constexpr std::uint64_t kAreaBase = kBase + (std::uint64_t{8} << 20U);
  static constexpr std::uint64_t kAreaSize = std::uint64_t{4} << 20U;
  static constexpr auto kPages = static_cast<std::size_t>(kRamSize / kPageSize);

  using Fault = FakeGuestMemory::Fault;
  struct Guest {
    Booking booking;
    bool is_booked = false;
    bool has_shared = false;  // then what it has taken is not all its own to give back
    std::unique_ptr<FakeGuestMemory> memory;
    PhysAddr root;
    std::map<std::size_t, std::uint64_t> written;  // page -> what it holds; zero where there is nothing
    std::unique_ptr<Fault> pending;                // of another vCPU, somewhere on its way
    Access pending_access = Access::kRead;
  };

  [[nodiscard]] std::uint32_t used() const {
    const auto counts = pages_.audit();
    require(counts.has_value(), "the page allocator's audit failed");
    return counts->frames - counts->free - counts->cma_idle;
  }

  void start(Guest& guest, OwnerId number) {
    const Result<Pfn> root = pages_.alloc(1, kZero);
    require(root.has_value(), "no root");
    guest.root = address_of(*root);
    const RamRange ram{kRam, kRamSize, decide_(3) == 0 ? kLastLevel : 2};
    guest.is_booked = decide_(2) == 0;
    guest.has_shared = false;
    if (guest.is_booked) require(pages_.book(guest.booking, Share::kRam, kPages, 0).has_value(), "not booked");
    guest.memory =
        std::make_unique<FakeGuestMemory>(GuestMemoryHost<FakeMachine>{pages_, ownership_, sharers_}, number, NodeId{0},
                                          ram, guest.root, guest.is_booked ? &guest.booking : nullptr);
    if (decide_(4) != 0) return;
    MappingCounts counts{};
    for (std::uint64_t done = 0; done < kRamSize;) {
      const auto step = guest.memory->populate_some(done, counts);
      if (!step) return;  // lazily, then
      done = *step;
    }
    require(counts[3] + counts[2] * kPagesPerBlock == kPages, "population counted something else");
  }
  void end(Guest& guest) {
    guest.pending.reset();
    RamUse use;
    unsigned steps = 0;
    for (std::uint64_t at = 0;;) {
      require(++steps < 10'000, "a guest does not end");
      const auto more = guest.memory->release_some(at, use);
      if (!more) break;
      at = *more;
    }
    guest.memory.reset();
    if (guest.is_booked) {
      require(guest.has_shared || guest.booking.left(Share::kRam) == kPages, "not all is promised that was");
      pages_.cancel(guest.booking);
    }
    pages_.free(frame_of(guest.root), 1);
    guest.written.clear();
  }

  void operate(Guest& guest) {
    switch (decide_(16)) {
      case 0:
        return end(guest);
      case 1:
      case 2:
      case 3:
        return share(guest);
      case 4:
        return static_cast<void>(guest.memory->merge_step());
      case 5:
      case 6:
        return pending(guest);
      case 7:
        return write_some(guest);
      default:
        return touch(guest, choose_page(), decide_(2) == 0 ? Access::kWrite : Access::kRead);
    }
  }
  std::size_t choose_page() {
    // Often the same few: several guests and faults are to meet.
    if (decide_(2) == 0) return static_cast<std::size_t>(decide_(6));
    return static_cast<std::size_t>(decide_(kPages));
  }
  [[nodiscard]] static IpaAddr address(std::size_t page) { return kRam + page * kPageSize; }

  // As a guest's instruction would: until it works, or there is no memory.
  void touch(Guest& guest, std::size_t page, Access access) {
    const auto answer = guest.memory->serve_fault(address(page) + 8 * decide_(512), access, [] {});
    if (!answer) return check_failed(answer.error());
    require(*answer == FaultAnswer::kRetry, "a guest was denied its RAM");
    check_reached(guest, page, access);
  }
  // There is always enough for all of them.
  void check_failed(Error error) const {
    require(is_failing_ && error == Error::kNoMemory, "a fault failed for no good reason");
  }
  void check_reached(Guest& guest, std::size_t page, Access access) {
    const auto mapping = guest.memory->stage2().table().query(address(page));
    if (!mapping || !mapping->attributes.allow(access)) throw Violation{"a fault that was answered would come again"};
    if (access == Access::kWrite) write(guest, page, mapping->address);
  }
  void write(Guest& guest, std::size_t page, PhysAddr physical) {
    const std::uint64_t value = ++stamp_;
    std::memcpy(machine_.bytes_at(physical), &value, sizeof value);
    guest.written[page] = value;
  }
  // The fault of a vCPU that is slow: begun, and finished at any later time.
  void pending(Guest& guest) {
    if (!guest.pending) {
      guest.pending_access = decide_(2) == 0 ? Access::kWrite : Access::kRead;
      guest.pending = std::make_unique<Fault>(*guest.memory, address(choose_page()), guest.pending_access);
    }
    for (std::uint64_t steps = 1 + decide_(12); steps != 0; --steps) {
      const auto answer = guest.pending->step();
      if (answer && *answer == FaultAnswer::kMore) continue;
      if (answer) {
        require(*answer == FaultAnswer::kRetry, "a guest was denied its RAM");
      } else {
        check_failed(answer.error());
      }
      guest.pending.reset();
      return;
    }
  }
  // The hypervisor's own write, over a page's border.
  void write_some(Guest& guest) {
    const std::size_t page = choose_page();
    if (page + 1 >= kPages) return;
    const std::array<std::uint64_t, 2> values{++stamp_, ++stamp_};
    // The first word of the second page, and the last of the first, which is not looked at.
    const auto bytes = std::as_bytes(std::span(values));
    if (guest.memory->write(address(page + 1) - sizeof(std::uint64_t), bytes)) guest.written[page + 1] = values[1];
  }
  void share(Guest& guest) {
    Guest& other = *guests_[static_cast<std::size_t>(decide_(guests_.size()))];
    if (&other == &guest || !other.memory) return;
    const std::size_t page = choose_page();
    const bool there = guest.memory->stage2().table().query(address(page)).has_value();
    const bool taken = other.memory->stage2().table().query(address(page)).has_value();
    const Result<> shared = guest.memory->share_page(address(page), *other.memory);
    if (shared) guest.has_shared = other.has_shared = true;
    require(!(taken && shared), "something was shared over something else");
    if (!shared || !there) return;
    const auto mapping = other.memory->stage2().table().query(address(page));
    require(mapping && mapping->attributes.copy_on_write() && !mapping->attributes.writable(), "not shared");
    const auto found = guest.written.find(page);
    if (found != guest.written.end()) other.written[page] = found->second;
  }

  // ---- What must hold

  struct User {
    OwnerId guest;
    Gfn gfn;
    friend auto operator<=>(const User&, const User&) = default;
  };
  void audit() {
    require(pages_.audit().has_value(), "the page allocator's audit failed");
    std::map<FrameIndex, std::vector<User>> users;
    for (auto& guest : guests_) {
      if (guest->memory) audit_guest(*guest, users);
    }
    for (auto& [frame, expected] : users) audit_frame(frame, expected);
  }
  void audit_guest(Guest& guest, std::map<FrameIndex, std::vector<User>>& users) {
    require(guest.booking.left(Share::kRam) <= kPages, "more is promised than was");
    guest.memory->stage2().table().visit(kRam, kRamSize, [&](IpaAddr ipa, const auto& mapping) {
      for (std::uint64_t offset = 0; offset < mapping.size(); offset += kPageSize) {
        const FrameIndex frame = frames_.index_of(frame_of(mapping.address + offset));
        users[frame].push_back({guest.memory->number(), frame_of(ipa + offset)});
        const auto page = static_cast<std::size_t>((ipa + offset - kRam) / kPageSize);
        std::uint64_t value = 0;
        std::memcpy(&value, machine_.bytes_at(mapping.address + offset), sizeof value);
        const auto found = guest.written.find(page);
        require(value == (found == guest.written.end() ? 0 : found->second), "a guest reads what it did not write");
        const bool shared = frames_[frame].state() == FrameState::kGuestShared;
        require(shared == mapping.attributes.copy_on_write(), "copy on write without sharers, or sharers without it");
        require(!shared || !mapping.attributes.writable(), "a shared page is writable");
      }
    });
    for (const auto& [page, value] : guest.written) {
      require(guest.memory->stage2().table().query(address(page)).has_value(), "a guest lost a page");
    }
  }
  void audit_frame(FrameIndex frame, std::vector<User>& expected) {
    const FrameIndex head = frames_.head_of(frame);
    const FrameWord word = frames_[head].word();
    if (word.state != FrameState::kGuestShared) {
      require(expected.size() == 1, "two guests have a frame that is not shared");
      require(word.owner == expected[0].guest && is_guest(word.state), "a frame of another owner");
      require(Gfn(frames_[head].value() + (frame - head)) == expected[0].gfn, "a frame that backs another page");
      return;
    }
    std::vector<User> listed;
    sharers_.for_each(frames_.pfn_of(frame), [&](OwnerId guest, Gfn gfn) { listed.push_back({guest, gfn}); });
    std::ranges::sort(listed);
    std::ranges::sort(expected);
    require(listed == expected, "a shared frame's list is not of those who map it");
    require(word.references >= listed.size(), "a shared frame counts fewer users than it has");
  }
  [[nodiscard]] std::size_t sharer_count() {
    std::size_t count = 0;
    for (FrameIndex i = 0; i < frames_.count(); ++i) {
      if (frames_[i].state() == FrameState::kGuestShared) ++count;
    }
    return count;
  }

  Decide decide_;
  FakeMachine machine_;
  Memblock memblock_;
  PageAllocator<FakeMachine> pages_;
  FrameTable& frames_ = pages_.frames();
  Ownership ownership_{frames_};
  SlabAllocator<FakeMachine> slabs_{pages_};
  Sharers<FakeMachine> sharers_{frames_, ownership_, slabs_};
  FaultInjector failing_;
  bool is_failing_ = false;  // or pages come in batches
  std::vector<std::unique_ptr<Guest>> guests_;
  std::uint32_t free_ = 0;  // frames in use before the first guest
  std::uint64_t stamp_ = 0;
  unsigned steps_ = 0;
};

}  // namespace cadastre::model
