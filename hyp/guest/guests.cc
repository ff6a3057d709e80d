#include "hyp/guest/guests.hh"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "hyp/check/walk_check.hh"
#include "hyp/core/audit.hh"
#include "hyp/core/console.hh"
#include "hyp/core/console_input.hh"
#include "hyp/core/memory.hh"
#include "hyp/core/power.hh"
#include "hyp/core/scheduler.hh"
#include "hyp/guest/crash_report.hh"
#include "hyp/guest/loader.hh"
#include "hyp/guest/vm.hh"
#include "mm/base/check.hh"
#include "mm/base/spinlock.hh"

namespace cadastre {
namespace {

class RawConsole final : public TextSink {
 public:
  void write(std::string_view text) override { console.write(text); }
};

// A guest of the configuration, running or not.
struct Guest {
  const GuestPlan* plan = nullptr;
  std::optional<LineConsole> lines;
  Vm* vm = nullptr;
  PhysAddr root;  // of its stage 2: two frames
  unsigned resets = 0;
};

constexpr unsigned kRootOrder = 1;
static_assert(Stage2<GuestEnvironment>::kRootBytes == kPageSize << kRootOrder);

RawConsole raw_console;
std::array<Guest, kMaxGuests> guests;
Spinlock lock;  // of `running` and `failures`
unsigned running GUARDED_BY(lock) = 0;
unsigned failures GUARDED_BY(lock) = 0;
GuestOptions options;
const HostDescription* host = nullptr;
unsigned host_cpus = 1;
ObjectsOf<Vm> vms(memory.slabs);
ObjectsOf<Vcpu> vcpus(memory.slabs);

[[nodiscard]] std::size_t number_of(const Guest& guest) {
  return static_cast<std::size_t>(&guest - guests.data());
}
// 0 is the hypervisor.
[[nodiscard]] OwnerId owner_of(const Guest& guest) {
  return static_cast<OwnerId>(number_of(guest) + 1);
}
// Interactive, the first guest has the terminal to itself; others' lines carry their name.
[[nodiscard]] bool has_terminal(const Guest& guest) {
  return !options.lines && number_of(guest) == 0;
}

// Whole lines, for whoever does not have the terminal.
[[nodiscard]] LineConsole& lines_of(Guest& guest) {
  if (!guest.lines) guest.lines.emplace(guest.plan->name.view(), raw_console);
  return *guest.lines;
}

// Its RAM as it was found and left: only what the guest touched was ever there.
void report(const Guest& guest, const RamUse& use) {
  constexpr unsigned kPagesToKib = kPageShift - 10;
  for (unsigned id = 0; id < kMaxZones; ++id) {
    if (use.by_zone[id] == 0) continue;
    console.print("guest {}: {} KiB of its RAM were in node {} zone {}", guest.plan->name.view(),
                  use.by_zone[id] << kPagesToKib, id / kZoneKinds, to_string(static_cast<ZoneKind>(id % kZoneKinds)));
  }
  if (use.lent != 0) {
    console.print("guest {}: {} KiB of them lent by CMA areas", guest.plan->name.view(), use.lent << kPagesToKib);
  }
}

// Takes back what there is of a guest, made in part or as a whole.
void destroy(Guest& guest) {
  if (has_terminal(guest)) console_input.attach(nullptr);
  if (guest.vm != nullptr) {
    report(guest, guest.vm->memory().release());
    vms.destroy(guest.vm);
    guest.vm = nullptr;
  }
  if (guest.root != PhysAddr(0)) {
    memory.pages.free(frame_of(guest.root), kRootOrder);
    guest.root = PhysAddr(0);
  }
}

Result<> populate(Vm& vm) {
  return vm.memory().populate().transform([&](const MappingCounts& counts) {
    console.print("guest {}: {} MiB populated: mappings of 1 GiB: {}, 2 MiB: {}, 4 KiB: {}", vm.name(),
                  vm.memory().size() >> 20, counts[1], counts[2], counts[3]);
  });
}

Result<> create(Guest& guest) {
  const GuestPlan& plan = *guest.plan;
  const Result<Pfn> root = memory.pages.alloc(kRootOrder, kZero);
  if (!root) return std::unexpected(root.error());
  guest.root = address_of(*root);
  TextSink& output = has_terminal(guest) ? static_cast<TextSink&>(raw_console) : lines_of(guest);
  const Result<Vm*> vm =
      vms.create(owner_of(guest), plan.name.view(), plan.cpus, plan.memory, plan.largest_level, guest.root, output);
  if (!vm) return std::unexpected(vm.error());
  guest.vm = *vm;
  const auto first_cpu = static_cast<unsigned>(number_of(guest)) % host_cpus;
  return (*vm)
      ->create(vcpus, first_cpu, host_cpus, host->gic.virtual_cpu.base)
      .and_then([&] { return plan.is_eager ? populate(**vm) : Result<>(); })
      .and_then([&] { return load_guest(**vm, plan); });
}

// r0 = 0, r1 = ~0 (the machine is in the DTB), r2 = DTB [Linux Documentation/arm/booting.rst].
void run(Guest& guest) {
  const GuestLayout& layout = guest.plan->layout;
  Vm& vm = *guest.vm;
  Vcpu& boot_vcpu = vm.vcpu(0);
  boot_vcpu.start(static_cast<std::uint32_t>(layout.entry.value()) | (layout.is_thumb ? 1U : 0U), 0);
  boot_vcpu.frame.r[1] = ~0U;
  boot_vcpu.frame.r[2] = static_cast<std::uint32_t>(layout.dtb.base.value());
  if (has_terminal(guest)) console_input.attach(&vm.uart());
  for (unsigned i = 0; i < vm.vcpu_count(); ++i) add_vcpu(vm.vcpu(i));
}

bool start(Guest& guest) {
  if (const Result<> made = create(guest); !made) {
    console.print("guest {}: failed: {}", guest.plan->name.view(), to_string(made.error()));
    destroy(guest);
    return false;
  }
  run(guest);
  return true;
}

// One guest less. After the last one the books are closed and the machine is off.
void leave(bool has_failed) {
  bool last = false;
  {
    const SpinlockGuard guard(lock);
    if (has_failed) ++failures;
    last = --running == 0;
  }
  if (!last) return;
  static_cast<void>(audit());  // what it finds is said; the machine ends either way
  power_off();
}

// Whether somebody will want to know what the guest was doing. Where nobody is at its terminal, a reset is what a kernel's
// panic looks like.
bool is_bad_end(const Guest& guest, Vm::Stop why) {
  return why == Vm::Stop::kFailed || (why == Vm::Stop::kReset && (options.lines || !has_terminal(guest)));
}

// Whether the guest goes on after its end, as told by the reason for it.
bool wants_restart(Guest& guest, Vm::Stop why) {
  const std::string_view name = guest.plan->name.view();
  switch (why) {
    case Vm::Stop::kPowerOff:
      console.print("guest {}: powered off", name);
      return false;
    case Vm::Stop::kReset:
      if (guest.resets++ >= options.reset_limit) {
        console.print("guest {}: failed: more than {} resets", name, options.reset_limit);
        return false;
      }
      console.print("guest {}: reset", name);
      return true;
    default:
      console.print("guest {}: failed: see above", name);
      return false;
  }
}

}  // namespace

void start_guests(const Configuration& configuration, const HostDescription& host_description, unsigned cpus,
                  const GuestOptions& guest_options) {
  options = guest_options;
  host = &host_description;
  host_cpus = cpus;
  CHECK(vms.init("vm") && vcpus.init("vcpu"));
  open_books();
  {
    const SpinlockGuard guard(lock);
    running = static_cast<unsigned>(configuration.guests.size());
  }
  for (std::size_t i = 0; i < configuration.guests.size(); ++i) {
    Guest& guest = guests[i];
    guest.plan = &configuration.guests[i];
    if (!start(guest)) leave(/*has_failed=*/true);
  }
}

void finish_guest(Vm& vm) {
  Guest& guest = guests[vm.id() - 1U];
  lines_of(guest).finish();
  const Vm::Stop why = vm.stop_reason();
  if (is_bad_end(guest, why)) report_vcpu(vm.stopped_by());
  const bool walks_agree = !walk_check.enabled() || walk_check.finish(vm);
  destroy(guest);
  if (!walks_agree) console.print("guest {}: failed: GuestWalk and the CPU differ", guest.plan->name.view());
  const bool restart = wants_restart(guest, why);
  if (restart && start(guest)) return;
  leave(/*has_failed=*/why != Vm::Stop::kPowerOff || !walks_agree);
}

}  // namespace cadastre
