#include "hyp/guest/crash_report.hh"

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "arch/armv7/psr.hh"
#include "hyp/core/console.hh"
#include "hyp/emulate/backtrace.hh"
#include "hyp/guest/guest_memory.hh"
#include "hyp/guest/guest_ram.hh"
#include "hyp/guest/vcpu.hh"
#include "hyp/guest/vm.hh"

namespace cadastre {
namespace {

namespace psr = arch::psr;

constexpr unsigned kMostFrames = 16;
constexpr unsigned kMostGuesses = 16;
constexpr unsigned kStackWords = 256;
constexpr unsigned kWordsPerStep = 8;

struct Mode {
  std::string_view name;
  std::uint32_t sp;
  std::uint32_t lr;
};
Mode mode_of(const Vcpu& vcpu) {
  const arch::BankedRegisters& banked = vcpu.banked;
  switch (vcpu.frame.cpsr & psr::kModeMask) {
    case psr::kSupervisor:
      return {"svc", banked.sp_svc, banked.lr_svc};
    case psr::kAbort:
      return {"abt", banked.sp_abt, banked.lr_abt};
    case psr::kUndefined:
      return {"und", banked.sp_und, banked.lr_und};
    case psr::kIrq:
      return {"irq", banked.sp_irq, banked.lr_irq};
    case psr::kFiq:
      return {"fiq", banked.sp_fiq, banked.lr_fiq};
    case psr::kUser:
      return {"usr", banked.sp_usr, vcpu.frame.lr};
    default:
      return {"sys", banked.sp_usr, vcpu.frame.lr};
  }
}

class Reporter {
 public:
  explicit Reporter(Vcpu& vcpu)
      : vcpu_(vcpu),
        mmu_(saved_mmu(vcpu.system)),
        privilege_((vcpu.frame.cpsr & psr::kModeMask) == psr::kUser ? Privilege::kUser : Privilege::kPrivileged) {}

  void registers() const {
    const auto& r = vcpu_.frame.r;
    const Mode mode = mode_of(vcpu_);
    say("vCPU {}: pc {:x} lr {:x} sp {:x} cpsr {:x} {} {}", vcpu_.index, vcpu_.frame.pc, mode.lr, mode.sp,
        vcpu_.frame.cpsr, mode.name, is_thumb() ? "Thumb" : "ARM");
    for (unsigned i = 0; i < 12; i += 4) {
      say("  r{} {:x} {:x} {:x} {:x}", i, r[i], r[i + 1], r[i + 2], r[i + 3]);
    }
    say("  r12 {:x} SCTLR {:x} TTBCR {:x} TTBR0 {:x} TTBR1 {:x}", r[12], mmu_.sctlr, mmu_.ttbcr, mmu_.ttbr0,
        mmu_.ttbr1);
    say("  DFSR {:x} DFAR {:x} IFSR {:x} IFAR {:x}", vcpu_.system.dfsr, vcpu_.system.dfar, vcpu_.system.ifsr,
        vcpu_.system.ifar);
  }

  // Every step of pc's translation.
  void walk() const {
    std::array<WalkStep, kLastLevel> steps;
    unsigned count = 0;
    const auto result = vcpu_.vm.memory().with_view([&](const auto& view) {
      return guest_walk(mmu_, view, GuestVirtAddr(vcpu_.frame.pc), Access::kExecute, privilege_,
                        [&](const WalkStep& step) { steps[count++] = step; });
    });
    for (const WalkStep& step : std::span(steps).first(count)) {
      say("  level {}: descriptor {:x} at {} (physical {})", step.level, step.entry, step.address, step.physical);
    }
    if (result) {
      say("  pc is at {} (physical {})", result->stage1.ipa, result->physical);
    } else {
      const GuestFault& fault = result.error();
      say("  pc cannot be executed: {} fault, stage {}, level {}", to_string(fault.kind), fault.stage2 ? 2 : 1,
          fault.level);
    }
  }

  // One frame: where to go on with the next.
  [[nodiscard]] std::optional<std::uint32_t> frame(std::uint32_t frame_pointer, unsigned& count) const {
    return follow_frames(*this, frame_pointer, 1, [&](std::uint32_t address) { say("  #{} {:x}", count++, address); });
  }
  // Some words: whether there are more.
  [[nodiscard]] bool stack(std::uint32_t stack_pointer, unsigned words, unsigned& count) const {
    return scan_stack(*this, stack_pointer, words, kMostGuesses - count, [&](std::uint32_t address) {
      say("  perhaps {:x}", address);
      ++count;
    });
  }
  // For the two above: a word of the guest's.
  [[nodiscard]] std::optional<std::uint32_t> operator()(GuestVirtAddr address, Access access) const {
    std::uint32_t word = 0;
    const CopyResult done = vcpu_.vm.memory().with_ram(
        mmu_, Populate::kNo, [] {},
        [&](auto& ram) {
          return copy_from_guest(mmu_, ram, address, std::as_writable_bytes(std::span(&word, 1)), access, privilege_);
        });
    if (!done) return std::nullopt;
    return word;
  }
  [[nodiscard]] std::uint32_t frame_pointer() const { return vcpu_.frame.r[is_thumb() ? 7 : 11]; }
  [[nodiscard]] std::uint32_t stack_pointer() const { return mode_of(vcpu_).sp; }

 private:
  template <class... Arguments>
  void say(std::string_view format, const Arguments&... arguments) const {
    char line[200];
    console.print("guest {}: {}", vcpu_.vm.name(), format_to(line, format, arguments...));
  }
  [[nodiscard]] bool is_thumb() const { return (vcpu_.frame.cpsr & psr::kThumb) != 0; }

  Vcpu& vcpu_;
  const GuestMmu mmu_;
  const Privilege privilege_;
};

}  // namespace

void CrashReport::begin(Vcpu& vcpu) {
  const Reporter reporter(vcpu);
  *this = {};
  vcpu_ = &vcpu;
  part_ = Part::kRegisters;
  frame_pointer_ = reporter.frame_pointer();
  stack_pointer_ = reporter.stack_pointer();
}

bool CrashReport::step() {
  if (part_ == Part::kNothing) return false;
  const Reporter reporter(*vcpu_);
  switch (part_) {
    case Part::kRegisters:
      reporter.registers();
      part_ = Part::kWalk;
      break;
    case Part::kWalk:
      reporter.walk();
      part_ = Part::kFrames;
      break;
    case Part::kFrames:
      if (const auto next = reporter.frame(frame_pointer_, frames_); next && frames_ < kMostFrames) {
        frame_pointer_ = *next;
      } else {
        // One frame alone is where it was, not where it came from.
        part_ = frames_ > 1 ? Part::kNothing : Part::kStack;
      }
      break;
    case Part::kStack:
      if (!reporter.stack(stack_pointer_ + 4 * words_, kWordsPerStep, guesses_)) part_ = Part::kNothing;
      words_ += kWordsPerStep;
      if (words_ >= kStackWords) part_ = Part::kNothing;
      break;
    case Part::kNothing:
      break;
  }
  return true;
}

}  // namespace cadastre
