// A list of blocks, linked through their frames: to add or take one anywhere costs the same.
#pragma once

#include <cstdint>

#include "mm/frames/frame.hh"

namespace cadastre {

class FrameList {
 public:
  [[nodiscard]] bool empty() const { return head_ == kNoFrame; }
  [[nodiscard]] FrameIndex head() const { return head_; }
  [[nodiscard]] FrameIndex tail() const { return tail_; }

  void push_front(FrameTable& frames, FrameIndex index) {
    Frame& frame = frames[index];
    frame.next = head_;
    frame.previous = kNoFrame;
    (head_ == kNoFrame ? tail_ : frames[head_].previous) = index;
    head_ = index;
  }
  void push_back(FrameTable& frames, FrameIndex index) {
    Frame& frame = frames[index];
    frame.previous = tail_;
    frame.next = kNoFrame;
    (tail_ == kNoFrame ? head_ : frames[tail_].next) = index;
    tail_ = index;
  }
  void remove(FrameTable& frames, FrameIndex index) {
    const Frame& frame = frames[index];
    (frame.previous == kNoFrame ? head_ : frames[frame.previous].next) = frame.next;
    (frame.next == kNoFrame ? tail_ : frames[frame.next].previous) = frame.previous;
  }
  // The list is not empty.
  FrameIndex pop_front(FrameTable& frames) {
    const FrameIndex index = head_;
    head_ = frames[index].next;
    (head_ == kNoFrame ? tail_ : frames[head_].previous) = kNoFrame;
    return index;
  }
  FrameIndex pop_back(FrameTable& frames) {
    const FrameIndex index = tail_;
    tail_ = frames[index].previous;
    (tail_ == kNoFrame ? head_ : frames[tail_].next) = kNoFrame;
    return index;
  }

 private:
  FrameIndex head_ = kNoFrame;
  FrameIndex tail_ = kNoFrame;
};

}  // namespace cadastre
