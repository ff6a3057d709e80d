#include "hyp/guest/life.hh"

#include <atomic>

#include "arch/armv7/instruction_counter.hh"
#include "hyp/check/walk_check.hh"
#include "hyp/config/plan_check.hh"
#include "hyp/core/console.hh"
#include "hyp/core/interrupts.hh"
#include "hyp/core/jobs.hh"
#include "hyp/core/machine_end.hh"
#include "hyp/core/memory.hh"
#include "hyp/core/scheduler.hh"
#include "hyp/guest/crash_report.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/terminal.hh"
#include "hyp/guest/timers.hh"
#include "mm/base/check.hh"

namespace cadastre {
namespace {

constexpr unsigned kRootOrder = 1;
static_assert(Stage2<GuestOperations>::kRootBytes == kPageSize << kRootOrder);

GuestHost host;
ObjectsOf<GuestMemory> memories(memory.slabs);
ObjectsOf<Vm> vms(memory.slabs);
ObjectsOf<Vcpu> vcpus(memory.slabs);
std::atomic_flag any_has_run;

// Instructions since entry.S, where the CPU counts them.
void report_boot_cost() {
  if (any_has_run.test_and_set()) return;
  const std::uint32_t instructions = arch::instructions();
  if (instructions != 0) console.print("boot: {} instructions to first guest entry", instructions);
}

}  // namespace

Result<> Guest::init(const GuestHost& guest_host) {
  host = guest_host;
  return vms.init("vm").and_then([] { return memories.init("guest-memory"); }).and_then([] {
    return vcpus.init("vcpu");
  });
}

void Guest::plan(const GuestPlan& plan, unsigned number) {
  plan_ = &plan;
  number_ = number;
  for (TimeAccount& account : accounts_) account.open(number);
}

// Whichever CPU does the work, its RAM is nearest to where it will run.
NodeId Guest::home() const {
  return memory.pages.cpu_node(number_ % host.cpus);
}

Result<> Guest::book(Share share) {
  const GuestDemand demand = demand_of(*plan_);
  return memory.pages.book(booking_, share, share == Share::kRam ? demand.ram : demand.tables, home());
}

void Guest::begin() {
  add_job(*this, number_ % host.cpus);
}

// The one place that changes it.
void Guest::become(GuestState state) {
  CHECK(may_follow(state_, state));
  state_ = state;
}

NextStep Guest::step() {
  switch (state_) {
    case GuestState::kCreated:
      become(GuestState::kLoading);
      return kAtOnce;
    case GuestState::kLoading:
      return load();
    case GuestState::kStopping:
      return take_back();
    default:
      return {};
  }
}

// ---- Its making

NextStep Guest::load() {
  const Result<bool> more = load_step();
  if (!more) {
    console.print("guest {}: failed: {}", name(), to_string(more.error()));
    why_ = Vm::Stop::kNone;
    become(GuestState::kStopping);
    return kAtOnce;
  }
  if (*more) return kAtOnce;
  become(GuestState::kRunning);
  run();
  return {};
}

// True: there is more to do before it can run.
Result<bool> Guest::load_step() {
  if (vm_ == nullptr) return make().transform([] { return true; });
  if (plan_->is_eager && populated_ < plan_->memory) {
    const Result<std::uint64_t> populated = vm_->memory().populate_some(populated_, mappings_);
    if (!populated) return std::unexpected(populated.error());
    populated_ = *populated;
    if (populated_ == plan_->memory) {
      console.print("guest {}: {} MiB populated: mappings of 1 GiB: {}, 2 MiB: {}, 4 KiB: {}", name(), populated_ >> 20,
                    mappings_[1], mappings_[2], mappings_[3]);
    }
    return true;
  }
  return loader_.step(*vm_, *plan_);
}

// All that it has but for its RAM.
Result<> Guest::make() {
  populated_ = 0;
  mappings_ = {};
  loader_ = {};
  released_ = 0;
  use_ = {};
  const Result<Pfn> root = memory.pages.alloc(kRootOrder, kZero);
  if (!root) return std::unexpected(root.error());
  root_ = address_of(*root);
  const auto id = static_cast<OwnerId>(number_ + 1);  // 0 is the hypervisor
  const Result<GuestMemory*> ram = memories.create(id, home(), booking_, plan_->memory, plan_->largest_level, root_);
  if (!ram) return std::unexpected(ram.error());
  memory_ = *ram;
  const Result<Vm*> vm = vms.create(id, name(), plan_->cpus, *memory_, terminal.output_of(number_, name()));
  if (!vm) return std::unexpected(vm.error());
  vm_ = *vm;
  return vm_->create(vcpus, accounts_, number_ % host.cpus, host.cpus, host.gicv);
}

// r0 = 0, r1 = ~0 (the machine is in the DTB), r2 = DTB [Linux Documentation/arm/booting.rst]. From its start on it may end at
// any time, on another CPU, and take with it all that is here: so that is the last thing.
void Guest::run() {
  const GuestLayout& layout = plan_->layout;
  started_ = now();
  terminal.attach(number_, vm_->uart());
  for (unsigned i = 0; i < vm_->vcpu_count(); ++i) add_vcpu(vm_->vcpu(i));
  Vcpu& boot_vcpu = vm_->vcpu(0);
  const unsigned cpu = boot_vcpu.cpu;
  const unsigned slot = boot_vcpu.slot;
  boot_vcpu.frame.r[1] = ~0U;
  boot_vcpu.frame.r[2] = static_cast<std::uint32_t>(layout.dtb.base.value());
  report_boot_cost();
  boot_vcpu.start(static_cast<std::uint32_t>(layout.entry.value()) | (layout.is_thumb ? 1U : 0U), 0);
  look_at(cpu, slot);
}

// ---- Its end

// Whether somebody will want to know what it was doing. Where nobody is at its terminal, a reset is what a kernel's panic looks
// like.
bool Guest::is_bad_end() const {
  return why_ == Vm::Stop::kFailed || (why_ == Vm::Stop::kReset && !terminal.belongs_to(number_));
}

void Guest::stopped() {
  become(GuestState::kStopping);
  terminal.detach(number_);
  terminal.finish_line(number_);
  why_ = vm_->stop_reason();
  if (is_bad_end()) report_.begin(vm_->stopped_by());
  if (walk_check.enabled()) walks_agree_ = walk_check.finish(*vm_);
  add_job(*this, number_ % host.cpus);
}

NextStep Guest::take_back() {
  if (report_.step()) return kAtOnce;
  if (vm_ != nullptr) {
    if (const auto more = vm_->memory().release_some(released_, use_); more) {
      released_ = *more;
      return kAtOnce;
    }
    report_ram();
  }
  unmake();
  return go_on_or_end();
}

// Its RAM as it was found and left: only what the guest touched was ever there.
void Guest::report_ram() const {
  constexpr unsigned kPagesToKib = kPageShift - 10;
  for (unsigned id = 0; id < kMaxZones; ++id) {
    if (use_.by_zone[id] == 0) continue;
    console.print("guest {}: {} KiB of its RAM were in node {} zone {}", name(), use_.by_zone[id] << kPagesToKib,
                  id / kZoneKinds, to_string(static_cast<ZoneKind>(id % kZoneKinds)));
  }
  if (use_.lent != 0) console.print("guest {}: {} KiB of them lent by CMA areas", name(), use_.lent << kPagesToKib);
}

// Takes back what there is but for its RAM.
void Guest::unmake() {
  if (vm_ != nullptr) vms.destroy(vm_);
  vm_ = nullptr;
  if (memory_ != nullptr) memories.destroy(memory_);
  memory_ = nullptr;
  if (root_ != PhysAddr(0)) memory.pages.free(frame_of(root_), kRootOrder);
  root_ = PhysAddr(0);
}

NextStep Guest::go_on_or_end() {
  if (!walks_agree_) console.print("guest {}: failed: GuestWalk and the CPU differ", name());
  switch (why_) {
    case Vm::Stop::kPowerOff:
      console.print("guest {}: powered off", name());
      return end(walks_agree_ ? GuestState::kOff : GuestState::kFailed);
    case Vm::Stop::kReset:
      return reset();
    case Vm::Stop::kFailed:
      console.print("guest {}: failed: see above", name());
      break;
    case Vm::Stop::kNone:  // said already
      break;
  }
  return end(GuestState::kFailed);
}

NextStep Guest::reset() {
  if (resets_++ >= host.reset_limit) {
    console.print("guest {}: failed: more than {} resets", name(), host.reset_limit);
    return end(GuestState::kFailed);
  }
  console.print("guest {}: reset", name());
  become(GuestState::kCreated);
  return pause_.restart_at(started_, now(), counts_per_second());
}

NextStep Guest::end(GuestState state) {
  become(state);
  memory.pages.cancel(booking_);
  guest_has_ended();
  return {};
}

}  // namespace cadastre
