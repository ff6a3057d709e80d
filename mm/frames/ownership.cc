#include "mm/frames/ownership.hh"

namespace cadastre {

Result<Frame*> Ownership::allocated(Pfn block) {
  Frame* frame = frames_.find(block);
  if (frame == nullptr) return std::unexpected(Error::kOutOfRange);
  if (!is_allocated(frame->state())) return std::unexpected(Error::kCorrupt);
  return frame;
}

Result<> Ownership::give(Pfn block, OwnerId guest, Gfn gfn) {
  Frame* frame = frames_.find(block);
  if (frame == nullptr) return std::unexpected(Error::kOutOfRange);
  FrameWord word = frame->word();
  // What came from a CMA area is lent already, just not to anyone yet.
  const bool lent = word.state == FrameState::kCmaLent;
  if (word.owner != kHypervisor || (!lent && word.state != FrameState::kHyp)) {
    return std::unexpected(Error::kCorrupt);
  }
  if (!lent) word.state = FrameState::kGuest;
  word.owner = guest;
  frame->set_value(gfn.value());
  frame->set_word(word);
  return {};
}

Result<> Ownership::change(Pfn block, FrameState to) {
  const auto frame = allocated(block);
  if (!frame) return std::unexpected(frame.error());
  FrameWord word = (*frame)->word();
  if (!may_become(word.state, to) || is_free(to)) return std::unexpected(Error::kCorrupt);
  word.state = to;
  (*frame)->set_word(word);
  return {};
}

Result<> Ownership::take_back(Pfn block) {
  const auto frame = allocated(block);
  if (!frame) return std::unexpected(frame.error());
  FrameWord word = (*frame)->word();
  if (word.state != FrameState::kGuest && word.state != FrameState::kCmaLent) return std::unexpected(Error::kCorrupt);
  word.owner = kHypervisor;
  (*frame)->set_word(word);
  return {};
}

Result<> Ownership::share(Pfn page) {
  const auto frame = allocated(page);
  if (!frame) return std::unexpected(frame.error());
  const FrameWord word = (*frame)->word();
  if (word.order != 0) return std::unexpected(Error::kInvalid);
  if (word.state != FrameState::kGuest || word.references != 1) return std::unexpected(Error::kCorrupt);
  (*frame)->set_value(0);
  (*frame)->set_word({.state = FrameState::kGuestShared, .references = 1});
  return {};
}

Result<> Ownership::unshare(Pfn page, OwnerId guest, Gfn gfn) {
  const auto frame = allocated(page);
  if (!frame) return std::unexpected(frame.error());
  const FrameWord word = (*frame)->word();
  if (word.state != FrameState::kGuestShared || word.references > 1) return std::unexpected(Error::kCorrupt);
  (*frame)->set_value(gfn.value());
  (*frame)->set_word({.state = FrameState::kGuest, .owner = guest, .references = 1});
  return {};
}

Result<> Ownership::get(Pfn block) {
  const auto frame = allocated(block);
  if (!frame) return std::unexpected(frame.error());
  FrameWord word = (*frame)->word();
  if (word.references == Frame::kMaxReferences) return std::unexpected(Error::kLimit);
  ++word.references;
  (*frame)->set_word(word);
  return {};
}

Result<unsigned> Ownership::put(Pfn block) {
  const auto frame = allocated(block);
  if (!frame) return std::unexpected(frame.error());
  FrameWord word = (*frame)->word();
  if (word.references == 0) return std::unexpected(Error::kCorrupt);
  --word.references;
  (*frame)->set_word(word);
  return word.references;
}

Result<> Ownership::split(Pfn block, unsigned order) {
  const auto frame = allocated(block);
  if (!frame) return std::unexpected(frame.error());
  FrameWord word = (*frame)->word();
  if (order > word.order) return std::unexpected(Error::kInvalid);
  const FrameIndex first = frames_.index_of(**frame);
  const FrameIndex end = first + (1U << word.order);
  const bool has_gfn = is_guest(word.state) || word.state == FrameState::kDmaPinned;
  const std::uint32_t value = (*frame)->value();
  word.order = order;
  for (FrameIndex i = first; i < end; i += 1U << order) {
    frames_[i].set_value(has_gfn ? value + (i - first) : value);
    frames_[i].put_down(word.state, word);
  }
  return {};
}

Result<> Ownership::join(Pfn block, unsigned order) {
  const auto frame = allocated(block);
  if (!frame) return std::unexpected(frame.error());
  const FrameIndex first = frames_.index_of(**frame);
  if (order > kMaxOrder || first % (1U << order) != 0) return std::unexpected(Error::kInvalid);
  const FrameIndex end = first + (1U << order);
  FrameWord head = (*frame)->word();
  const std::uint32_t value = (*frame)->value();
  for (FrameIndex i = first; i < end;) {
    const FrameWord word = frames_[i].word();
    if (word.state != head.state || word.owner != head.owner || word.references != head.references ||
        frames_[i].value() != value + (i - first)) {
      return std::unexpected(Error::kInvalid);
    }
    i += 1U << word.order;
  }
  for (FrameIndex i = first + 1; i < end; ++i) frames_[i].absorb();
  head.order = order;
  (*frame)->set_word(head);
  return {};
}

}  // namespace cadastre
