// Who runs on a CPU, and for how long. Whoever competes for a CPU's time has an account of what it has had of it, in virtual
// time: time divided by a weight, so that shares are fair when all accounts that want the CPU stand at the same virtual time.
//
//    virtual time ------>
//        floor                              current
//          |   bank   |        turn            |
//     -----+----------+------------------------+----
//          woken      first of those that wait
//
// The one that is furthest behind runs, until it is a turn ahead of the first of those that wait: what is left of a turn is
// what is left of the way to there, whether or not it sleeps in between. Vcpus of one guest that want the same CPU may wait
// for each other, spinning, so they take shorter turns. One that wakes up goes first if it stands behind the one that runs,
// and only then: it has had less. Who sleeps banks no more than `bank`: when it wakes up it stands at most so far behind
// those that did not sleep.
//
// So whoever wants the CPU all the while gets its share among those that want it at some time meanwhile, less at most 2 turns
// and a bank: a slice. (It may be a turn ahead at the beginning, and a turn and a bank behind at the end.)
//
// Plain logic, of one CPU: time is what the caller says, in ticks of any clock.
#pragma once

#include <cstdint>
#include <optional>

namespace cadastre {

struct Vcpu;

class TimeAccount {
 public:
  static constexpr std::uint32_t kDefaultWeight = 256;
  static constexpr std::uint32_t kMostWeight = 4096;

  TimeAccount() = default;
  TimeAccount(const TimeAccount&) = delete;
  TimeAccount& operator=(const TimeAccount&) = delete;

  // While it wants no CPU. Accounts of the same guest are siblings; `weight` in [1, kMostWeight].
  void open(unsigned guest, std::uint32_t weight = kDefaultWeight) {
    guest_ = guest;
    weight_ = weight;
    virtual_tick_ = (1U << kShift) / weight;
  }

  // Whose it is, which is for its CPU to know: a vCPU, while there is one, and whether a job on its time is due.
  Vcpu* vcpu = nullptr;
  bool has_job = false;

 private:
  friend class RunQueue;
  static constexpr unsigned kShift = 20;

  // Virtual time wraps around; differences do not.
  [[nodiscard]] static bool is_before(std::uint64_t a, std::uint64_t b) { return static_cast<std::int64_t>(a - b) < 0; }
  [[nodiscard]] bool is_behind(const TimeAccount& other) const { return is_before(virtual_time_, other.virtual_time_); }

  TimeAccount* next_ = nullptr;  // of those that wait
  std::uint64_t virtual_time_ = 0;
  std::uint32_t weight_ = kDefaultWeight;
  std::uint32_t virtual_tick_ = (1U << kShift) / kDefaultWeight;
  unsigned guest_ = ~0U;
  bool wants_cpu_ = false;
};

class RunQueue {
 public:
  // In ticks that an account of the default weight is charged.
  struct Lengths {
    std::uint32_t turn = 0;
    std::uint32_t turn_among_siblings = 0;
    std::uint32_t bank = 0;
  };

  RunQueue() = default;
  RunQueue(const RunQueue&) = delete;
  RunQueue& operator=(const RunQueue&) = delete;

  void set_lengths(const Lengths& lengths) {
    turn_ = virtual_length(lengths.turn);
    turn_among_siblings_ = virtual_length(lengths.turn_among_siblings);
    bank_ = virtual_length(lengths.bank);
  }

  // The time since the last call was current()'s. Before each of the others.
  void charge(std::uint64_t now) {
    const std::uint64_t ticks = now - charged_until_;
    charged_until_ = now;
    if (current_ == nullptr) return;
    current_->virtual_time_ += ticks * current_->virtual_tick_;
    const TimeAccount& last = first_ != nullptr && first_->is_behind(*current_) ? *first_ : *current_;
    if (TimeAccount::is_before(floor_, last.virtual_time_)) floor_ = last.virtual_time_;
  }

  // It wants the CPU from now on; nothing if it does already.
  void wake(TimeAccount& account) {
    if (account.wants_cpu_) return;
    account.wants_cpu_ = true;
    if (TimeAccount::is_before(account.virtual_time_, floor_ - bank_)) account.virtual_time_ = floor_ - bank_;
    insert(account);
    if (current_ != nullptr && account.is_behind(*current_)) preempts_ = true;
  }
  // It does not want it any more; nothing if it does not already.
  void sleep(TimeAccount& account) {
    if (!account.wants_cpu_) return;
    account.wants_cpu_ = false;
    if (current_ == &account) {
      current_ = nullptr;
    } else {
      remove(account);
    }
  }

  // Whose time it is from now on; null when nobody wants it.
  TimeAccount* choose() {
    if (current_ != nullptr) {
      if (!is_turn_over()) return current_;
      insert(*current_);
    }
    preempts_ = false;
    current_ = first_;
    if (first_ != nullptr) first_ = first_->next_;
    return current_;
  }
  [[nodiscard]] TimeAccount* current() const { return current_; }

  // How many ticks are left of current()'s turn; nothing when nobody else waits.
  [[nodiscard]] std::optional<std::uint64_t> time_left() const {
    if (current_ == nullptr || first_ == nullptr) return std::nullopt;
    std::uint64_t end = first_->virtual_time_ + turn_;
    const TimeAccount* sibling = first_;
    while (sibling != nullptr && sibling->guest_ != current_->guest_) sibling = sibling->next_;
    if (sibling != nullptr && TimeAccount::is_before(sibling->virtual_time_ + turn_among_siblings_, end)) {
      end = sibling->virtual_time_ + turn_among_siblings_;
    }
    if (!TimeAccount::is_before(current_->virtual_time_, end)) return 0;
    return ((end - current_->virtual_time_) * current_->weight_ >> TimeAccount::kShift) + 1;
  }

 private:
  [[nodiscard]] static std::uint64_t virtual_length(std::uint32_t ticks) {
    return (std::uint64_t{ticks} << TimeAccount::kShift) / TimeAccount::kDefaultWeight;
  }
  [[nodiscard]] bool is_turn_over() const {
    if (first_ == nullptr) return false;
    return (preempts_ && first_->is_behind(*current_)) || time_left() == 0;
  }

  // Behind those that stand at the same virtual time.
  void insert(TimeAccount& account) {
    TimeAccount** link = &first_;
    while (*link != nullptr && !account.is_behind(**link)) link = &(*link)->next_;
    account.next_ = *link;
    *link = &account;
  }
  void remove(const TimeAccount& account) {
    TimeAccount** link = &first_;
    while (*link != &account) link = &(*link)->next_;
    *link = account.next_;
  }

  std::uint64_t turn_ = 0;
  std::uint64_t turn_among_siblings_ = 0;
  std::uint64_t bank_ = 0;
  std::uint64_t charged_until_ = 0;
  std::uint64_t floor_ = 0;       // where the last of those that want the CPU stood, at most: it only rises
  TimeAccount* first_ = nullptr;  // of those that wait, by virtual time
  TimeAccount* current_ = nullptr;
  bool preempts_ = false;  // one has woken up that has had less than current()
};

}  // namespace cadastre
