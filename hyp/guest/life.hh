// A guest's life: a node of the configuration, and what became of it (hyp/guest/life_table.hh). What is long in it, its making
// and its end, is a job of its CPU in small steps.
#pragma once

#include <cstdint>
#include <string_view>

#include "hyp/config/plan.hh"
#include "hyp/core/job_queue.hh"
#include "hyp/guest/crash_report.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/life_table.hh"
#include "hyp/guest/loader.hh"
#include "hyp/guest/vm.hh"
#include "mm/base/address.hh"
#include "mm/base/error.hh"
#include "mm/frames/booking.hh"

namespace cadastre {

// What the guests of a machine have in common.
struct GuestHost {
  PhysAddr gicv;  // the CPU interface that guests reach
  unsigned cpus = 1;
  unsigned reset_limit = ~0U;  // a guest that resets more often has failed
};

class Guest final : private Job {
 public:
  Guest() = default;

  // Once, before there is any guest: slab caches, and what they have in common.
  [[nodiscard]] static Result<> init(const GuestHost& host);

  // What it will be. `plan` has been checked and outlives it; `number` counts guests from 0 on.
  void plan(const GuestPlan& plan, unsigned number);
  // Has its demand promised, to the end of its last life: tables of all guests before RAM of any.
  [[nodiscard]] Result<> book(Share share);
  // Queues its making.
  void begin();
  // The last of its vCPUs is off its CPU. From any CPU.
  void stopped();

  [[nodiscard]] GuestState state() const { return state_; }
  [[nodiscard]] std::string_view name() const override { return plan_->name.view(); }

 private:
  [[nodiscard]] NodeId home() const;
  NextStep step() override;
  [[nodiscard]] TimeAccount* account() override { return accounts_.data(); }
  void become(GuestState state);

  [[nodiscard]] NextStep load();
  [[nodiscard]] Result<bool> load_step();
  [[nodiscard]] Result<> make();
  void run();

  [[nodiscard]] bool is_bad_end() const;
  [[nodiscard]] NextStep take_back();
  void report_ram() const;
  void unmake();
  [[nodiscard]] NextStep go_on_or_end();
  [[nodiscard]] NextStep reset();
  [[nodiscard]] NextStep end(GuestState state);

  // Its shares of CPUs, in all its lives. Its job is done where its first vCPU runs, and never while that does.
  Vm::Accounts accounts_;
  const GuestPlan* plan_ = nullptr;
  unsigned number_ = 0;
  Booking booking_;
  GuestState state_ = GuestState::kCreated;

  // What it has, made in part or as a whole.
  Vm* vm_ = nullptr;
  GuestMemory* memory_ = nullptr;
  PhysAddr root_;  // of its stage 2: two frames

  // How far its making, or its end, has come.
  std::uint64_t populated_ = 0;
  MappingCounts mappings_{};
  Loader loader_;
  CrashReport report_;
  std::uint64_t released_ = 0;
  RamUse use_;

  Vm::Stop why_ = Vm::Stop::kNone;  // it ended; kNone: it never ran
  bool walks_agree_ = true;
  unsigned resets_ = 0;
  std::uint64_t started_ = 0;  // ticks
  ResetPause pause_;
};

}  // namespace cadastre
