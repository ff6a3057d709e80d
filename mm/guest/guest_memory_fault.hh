// BasicGuestMemory: faults, population, and what the hypervisor writes. Included by guest_memory.hh, at its end.
#pragma once

namespace cadastre {

template <GuestMemoryOperations O, Machine M>
Result<Pfn> BasicGuestMemory<O, M>::take_frame(IpaAddr base, unsigned level) {
  // There is always something smaller than a block, so nobody is made to give up memory for one.
  constexpr AllocFlags kGuests = kHighmem | kMovable;
  Result<Pfn> block = std::unexpected(Error::kNoMemory);
  if (booking_ != nullptr) block = host_.pages.alloc_booked(*booking_, Share::kRam, order_of(level), home_);
  if (!block) {
    const AllocFlags flags = level == kLastLevel ? kGuests : kGuests | kNoWarn | kNoRetry;
    block = host_.pages.alloc_near(home_, order_of(level), flags);
  }
  if (!block) return block;
  CHECK(host_.ownership.give(*block, number_, gfn_of(base)));
  return block;
}

template <GuestMemoryOperations O, Machine M>
void BasicGuestMemory<O, M>::give_back(Pfn block, unsigned order, bool scrubbed) {
  if (scrubbed) CHECK(host_.ownership.take_back(block));
  if (booking_ == nullptr) return host_.pages.free(block, order);
  CHECK(host_.pages.free_booked(*booking_, Share::kRam, block, order));
}

// ---- A fault

template <GuestMemoryOperations O, Machine M>
Result<FaultAnswer> BasicGuestMemory<O, M>::Fault::look() {
  if (const Result<> found = find_needs(); !found) return std::unexpected(found.error());
  if (needs_.what == What::kNothing) return needs_.answer;
  if (const Result<> filled = stock_.fill(needs_.tables); !filled) {
    if (needs_.what != What::kSplit || !may_split_) return fail(filled.error());
    may_split_ = false;
    return FaultAnswer::kMore;
  }
  return prepare();
}

template <GuestMemoryOperations O, Machine M>
Result<> BasicGuestMemory<O, M>::Fault::find_needs() {
  Sharer* mine = nullptr;
  {
    const SpinlockGuard guard(memory_.lock_);
    RamRange ram = memory_.ram_;
    ram.largest_level = largest_level_;
    const Result<FaultNeeds> needs = memory_.stage2_.look(ipa_, access_, ram, may_split_);
    if (!needs) return std::unexpected(needs.error());
    needs_ = *needs;
    if (needs_.what != What::kCopy) [[likely]]
      return {};
    const Result<Sharer*> claimed = claim_or_hold();
    if (!claimed) return std::unexpected(claimed.error());
    mine = *claimed;
  }
  memory_.host_.sharers.destroy(mine);
  return {};
}

// A shared page: ours again if nobody else has it, else it stays as it is until it is copied.
template <GuestMemoryOperations O, Machine M>
Result<Sharer*> BasicGuestMemory<O, M>::Fault::claim_or_hold() {
  Sharer* mine = memory_.host_.sharers.claim(shared(), memory_.number_, memory_.gfn_of(needs_.base));
  if (mine == nullptr) {
    if (const Result<> held = memory_.host_.sharers.hold(shared()); !held) return std::unexpected(held.error());
    holds_shared_ = true;
    return mine;
  }
  memory_.stage2_.commit_last_user(needs_);
  needs_ = {};
  return mine;
}

template <GuestMemoryOperations O, Machine M>
Result<FaultAnswer> BasicGuestMemory<O, M>::Fault::prepare() {
  if (needs_.what == What::kSplit) return commit();
  if (needs_.level == 1) {
    gib_.emplace(memory_.host_.pages, memory_.host_.ownership, memory_.tables_, memory_.number_,
                 memory_.gfn_of(needs_.base), memory_.booking_);
    stage_ = Stage::kGather;
    return FaultAnswer::kMore;
  }
  const Result<Pfn> frame = memory_.take_frame(needs_.base, needs_.level);
  if (!frame) {
    if (needs_.level == kLastLevel) return fail(frame.error());
    largest_level_ = needs_.level + 1;
    return FaultAnswer::kMore;
  }
  frame_ = *frame;
  has_frame_ = true;
  if (needs_.level != kLastLevel) {
    scrubbed_ = 0;
    stage_ = Stage::kScrub;
    return FaultAnswer::kMore;
  }
  if (needs_.what == What::kCopy) {
    memory_.tables_.copy(frame_, shared());
  } else {
    memory_.tables_.scrub(frame_, 1);
  }
  return commit();
}

template <GuestMemoryOperations O, Machine M>
Result<FaultAnswer> BasicGuestMemory<O, M>::Fault::gather() {
  CHECK(gib_.has_value());
  switch (gib_->step()) {
    case GibProgress::kMore:
      return FaultAnswer::kMore;
    case GibProgress::kNone:
      gib_.reset();
      largest_level_ = 2;
      stage_ = Stage::kLook;
      return FaultAnswer::kMore;
    case GibProgress::kDone:
      break;
  }
  frame_ = gib_->first();
  return commit();
}

template <GuestMemoryOperations O, Machine M>
Result<FaultAnswer> BasicGuestMemory<O, M>::Fault::scrub() {
  memory_.tables_.scrub(frame_ + scrubbed_, kScrubPages);
  scrubbed_ += kScrubPages;
  return scrubbed_ < kPagesPerBlock ? FaultAnswer::kMore : commit();
}

template <GuestMemoryOperations O, Machine M>
Result<FaultAnswer> BasicGuestMemory<O, M>::Fault::commit() {
  const Result<bool> done =
      memory_.with_stock(stock_, [&] { return memory_.stage2_.commit(needs_, access_, address_of(frame_)); });
  stage_ = Stage::kLook;
  if (done && *done) [[likely]] {
    has_frame_ = false;
    if (gib_) gib_->keep();
    if (needs_.what == What::kCopy) memory_.stop_sharing(shared(), memory_.gfn_of(needs_.base));
    if (has_prepared()) [[unlikely]]
      drop();
    return needs_.what == What::kSplit ? FaultAnswer::kMore : FaultAnswer::kRetry;
  }
  drop();
  // The tables that were missing were others by now.
  if (done || done.error() == Error::kNoMemory) return FaultAnswer::kMore;
  return std::unexpected(done.error());
}

template <GuestMemoryOperations O, Machine M>
void BasicGuestMemory<O, M>::Fault::drop() {
  if (has_frame_) memory_.give_back(frame_, order_of(needs_.level), needs_.what == What::kFrame);
  has_frame_ = false;
  if (holds_shared_ && memory_.host_.sharers.let_go(shared(), memory_.number_, memory_.gfn_of(needs_.base))) {
    memory_.give_back(shared(), 0, false);
  }
  holds_shared_ = false;
  gib_.reset();
}

template <GuestMemoryOperations O, Machine M>
template <class Between>
Result<FaultAnswer> BasicGuestMemory<O, M>::serve_fault(IpaAddr address, Access access, Between&& between) {
  Fault fault(*this, address, access);
  for (;;) {
    const Result<FaultAnswer> answer = fault.step();
    if (!answer || *answer != FaultAnswer::kMore) return answer;
    between();
  }
}

// ---- Jobs

template <GuestMemoryOperations O, Machine M>
Result<bool> BasicGuestMemory<O, M>::step_job(IpaAddr address, Access access, unsigned largest_level) {
  if (job_ && job_->address() != address) job_.reset();
  if (!job_) job_.emplace(*this, address, access, largest_level);
  const Result<FaultAnswer> answer = job_->step();
  if (answer && *answer == FaultAnswer::kMore) return false;
  job_.reset();
  if (!answer) return std::unexpected(answer.error());
  return true;
}

template <GuestMemoryOperations O, Machine M>
Result<std::uint64_t> BasicGuestMemory<O, M>::populate_some(std::uint64_t done, MappingCounts& counts) {
  const IpaAddr at = ram_.first + done;
  std::optional<Mapping> mapping;
  if (!job_) mapping = mapping_at(at);
  if (!mapping) {
    const Result<bool> answered = step_job(at, Access::kRead, ram_.largest_level);
    if (!answered) return std::unexpected(answered.error());
    if (!*answered) return done;
    mapping = mapping_at(at);
  }
  const Mapping leaf = mapping.value_or(Mapping{});
  ++counts[leaf.level];
  return std::min(at.aligned_down(leaf.size()) + leaf.size() - ram_.first, ram_.size);
}

template <GuestMemoryOperations O, Machine M>
Result<std::uint64_t> BasicGuestMemory<O, M>::prepare_write_some(IpaAddr address, std::uint64_t size) {
  if (!ram_.contains(address, size)) return std::unexpected(Error::kOutOfRange);
  // What comes before the fault that is being answered was ready in an earlier step.
  const bool goes_on = job_ && job_->address() >= address && job_->address() - address < size;
  std::uint64_t done = goes_on ? job_->address() - address : 0;
  while (done < size) {
    const IpaAddr at = address + done;
    const Result<bool> answered = step_job(at, Access::kWrite, std::max(ram_.largest_level, 2U));
    if (!answered) return std::unexpected(answered.error());
    if (!*answered) break;
    done = std::min(done + kPageSize - at.offset_in(kPageSize), size);
  }
  return done;
}

// ---- What the hypervisor does

template <GuestMemoryOperations O, Machine M>
Result<> BasicGuestMemory<O, M>::write(IpaAddr address, std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  if (!ram_.contains(address, bytes.size())) return std::unexpected(Error::kOutOfRange);
  while (!bytes.empty()) {
    const Result<FaultAnswer> answer = serve_fault(address, Access::kWrite, [] {});
    if (!answer) return std::unexpected(answer.error());
    const SpinlockGuard guard(lock_);
    const Result<FaultNeeds> needs = stage2_.look(address, Access::kWrite, ram_);
    if (!needs) return std::unexpected(needs.error());
    if (needs->what != FaultNeeds::What::kNothing) continue;  // shared again
    // Under the lock, so that the page stays where it is; it is one at most. Rights are the guest's, not the hypervisor's.
    const auto offset = static_cast<std::size_t>(address.offset_in(kPageSize));
    const std::size_t part = std::min(bytes.size(), kPageSize - offset);
    tables_.write(stage2_.begin_write(address), bytes.first(part));
    bytes = bytes.subspan(part);
    address += part;
  }
  return {};
}

template <GuestMemoryOperations O, Machine M>
Result<> BasicGuestMemory<O, M>::map_device(IpaAddr address, PhysAddr physical, std::uint64_t size) {
  TableStock stock(tables_);
  if (const Result<> filled = stock.fill(TableStock::kMost); !filled) return filled;
  return with_stock(stock, [&] { return stage2_.table().map(address, physical, size, Stage2Attributes::device()); });
}

template <GuestMemoryOperations O, Machine M>
std::optional<std::uint64_t> BasicGuestMemory<O, M>::clean_some(std::uint64_t from) {
  constexpr std::uint64_t kStep = std::uint64_t{512} << 10;
  const SpinlockGuard guard(lock_);
  const std::uint64_t at =
      from < Stage2Tables::kInputSize ? stage2_.table().next_mapped(IpaAddr(from)) : Stage2Tables::kInputSize;
  const auto mapping = stage2_.table().query(IpaAddr(at));
  if (!mapping) return std::nullopt;
  const std::uint64_t end = (at | (std::min(mapping->size(), kStep) - 1)) + 1;
  if (mapping->attributes.memory() == Stage2Memory::kNormal) {
    tables_.clean_pages(frame_of(mapping->address), static_cast<std::uint32_t>((end - at) >> kPageShift));
  }
  return end;
}

template <GuestMemoryOperations O, Machine M>
bool BasicGuestMemory<O, M>::merge_step() {
  constexpr unsigned kTablesPerStep = 4;
  const SpinlockGuard guard(lock_);
  return stage2_.merge_step(kTablesPerStep, ram_.largest_level);
}

}  // namespace cadastre
