// A naive GICv2 without Security Extensions, distributor and CPU interfaces, an interrupt at a time and
// without list registers [GICv2 3, 4]: what a guest would see on hardware of its own.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace cadastre {

class GicModel {
 public:
  static constexpr unsigned kInterrupts = 128;
  static constexpr unsigned kTimer = 27;  // its physical interrupt stays active until this one is done with

  struct Candidate {
    unsigned number = 0;
    unsigned source = 0;
    unsigned priority = 0;  // of 32
  };

  explicit GicModel(unsigned cpus) : cpus_(cpus), private_(cpus), running_(cpus) { reset(); }

  std::uint32_t read(unsigned cpu, std::uint32_t offset, unsigned size) {
    if (!allowed(offset, size)) return 0;
    std::uint32_t value = 0;
    for (unsigned i = 0; i < size; ++i) value |= read_byte(cpu, offset + i) << 8 * i;
    return value;
  }
  void write(unsigned cpu, std::uint32_t offset, unsigned size, std::uint32_t value) {
    if (!allowed(offset, size)) return;
    if (offset == 0xf00) {
      send(cpu, value);
      return;
    }
    for (unsigned i = 0; i < size; ++i) write_byte(cpu, offset + i, value >> 8 * i & 0xff);
    for (unsigned c = 0; c < cpus_; ++c) settle(c);
  }

  void set_level(unsigned cpu, unsigned number, bool level) {
    Interrupt& one = at(cpu, number);
    if (level && !one.level && one.edge) one.latched = true;
    one.level = level;
  }
  void raise(unsigned cpu, unsigned number) { at(cpu, number).latched = true; }
  void fire_timer(unsigned cpu) { at(cpu, kTimer).latched = at(cpu, kTimer).hardware = true; }
  bool physical_timer_active(unsigned cpu) { return at(cpu, kTimer).hardware; }

  // Whatever is pending, enabled and not active, and sent to `cpu`: what ends a WFI.
  std::vector<Candidate> waiting(unsigned cpu) {
    std::vector<Candidate> all;
    for (unsigned n = 0; n < kInterrupts; ++n) {
      const Interrupt& one = at(cpu, n);
      const bool forwarded = (control_ >> (one.group1 ? 1 : 0) & 1) != 0;
      const bool mine = n < 32 || (one.targets >> cpu & 1) != 0;
      if (!pending(one, n) || one.active || !one.enabled || !forwarded || !mine) continue;
      if (n >= 16) all.push_back({.number = n, .priority = one.priority / 8U});
      for (unsigned c = 0; n < 16 && c < cpus_; ++c) {
        if (one.from[c]) all.push_back({.number = n, .source = c, .priority = one.priority / 8U});
      }
    }
    return all;
  }
  // Of these, what may be signalled: unmasked, and more urgent than what runs.
  bool may_signal(unsigned cpu, const Candidate& one) const {
    return one.priority < 31 && (running_[cpu].empty() || one.priority < running_[cpu].back().priority);
  }
  void acknowledge(unsigned cpu, const Candidate& one) {
    Interrupt& interrupt = at(cpu, one.number);
    if (one.number < 16) {
      interrupt.from[one.source] = false;
    } else {
      interrupt.latched = false;
    }
    interrupt.active = true;
    running_[cpu].push_back(one);
  }
  // The interrupt that was acknowledged last ends.
  unsigned end(unsigned cpu) {
    const unsigned number = running_[cpu].back().number;
    running_[cpu].pop_back();
    at(cpu, number).active = false;
    settle(cpu);
    return number;
  }
  bool running(unsigned cpu) const { return !running_[cpu].empty(); }
  bool active(unsigned cpu, unsigned number) { return at(cpu, number).active; }

  void reset() {
    control_ = 0;
    for (unsigned c = 0; c < cpus_; ++c) {
      running_[c].clear();
      for (unsigned n = 0; n < 32; ++n) power_on(private_[c][n], n);
    }
    for (unsigned n = 32; n < kInterrupts; ++n) power_on(shared_[n], n);
  }

 private:
  struct Interrupt {
    bool enabled = false;
    bool group1 = false;
    bool edge = false;
    bool latched = false;
    bool level = false;
    bool active = false;
    bool hardware = false;
    unsigned priority = 0;
    unsigned targets = 0;
    std::array<bool, 8> from{};
  };

  static bool by_byte(std::uint32_t offset) {
    return (offset >= 0x400 && offset < 0xc00) || (offset >= 0xf10 && offset < 0xf30);
  }
  static bool allowed(std::uint32_t offset, unsigned size) {
    return offset < 0x1000 && offset % size == 0 && (size == 4 || by_byte(offset));
  }
  Interrupt& at(unsigned cpu, unsigned number) { return number < 32 ? private_[cpu][number] : shared_[number]; }
  static bool pending(const Interrupt& one, unsigned number) {
    if (number >= 16) return one.latched || (one.level && !one.edge);
    for (const bool from : one.from) {
      if (from) return true;
    }
    return false;
  }
  void power_on(Interrupt& one, unsigned number) {
    one = {.enabled = number < 16, .edge = number < 16, .level = one.level};
    one.targets = cpus_ == 1 ? 1 : 0;
  }
  void settle(unsigned cpu) {
    Interrupt& timer = at(cpu, kTimer);
    if (!timer.latched && !timer.active) timer.hardware = false;
  }

  std::uint32_t read_byte(unsigned cpu, std::uint32_t offset) {
    if (offset == 0x000) return control_;
    if (offset == 0x004) return (cpus_ - 1) << 5 | 3;
    if (offset >= 0x008 && offset < 0x00c) return 0x0200143bU >> 8 * (offset - 8) & 0xff;
    if (offset >= 0x080 && offset < 0x400) return read_bits(cpu, offset);
    if (offset >= 0x400 && offset < 0x400 + kInterrupts) return at(cpu, offset - 0x400).priority;
    if (offset >= 0x800 && offset < 0x800 + kInterrupts) {
      if (cpus_ == 1) return 0;
      return offset < 0x820 ? 1U << cpu : at(cpu, offset - 0x800).targets;
    }
    std::uint32_t value = 0;
    if (offset >= 0xc00 && offset < 0xc00 + kInterrupts / 4) {
      for (unsigned i = 0; i < 4; ++i) value |= (at(cpu, 4 * (offset - 0xc00) + i).edge ? 2U : 0) << 2 * i;
    }
    if (offset >= 0xf10 && offset < 0xf30) {
      for (unsigned c = 0; c < 8; ++c) value |= (at(cpu, offset & 0xf).from[c] ? 1U : 0) << c;
    }
    if (offset >= 0xfd0 && offset % 4 == 0) {
      constexpr std::uint8_t kIds[] = {0x04, 0, 0, 0, 0x90, 0xb4, 0x2b, 0, 0x0d, 0xf0, 0x05, 0xb1};
      return kIds[(offset - 0xfd0) / 4];
    }
    return value;
  }
  std::uint32_t read_bits(unsigned cpu, std::uint32_t offset) {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned number = 8 * (offset & 0x7f) + i;
      if (number >= kInterrupts) return 0;
      const Interrupt& one = at(cpu, number);
      bool bit = false;
      switch (offset & 0x380) {
        case 0x080:
          bit = one.group1;
          break;
        case 0x100:
        case 0x180:
          bit = one.enabled;
          break;
        case 0x200:
        case 0x280:
          bit = pending(one, number);
          break;
        default:
          bit = one.active;
          break;
      }
      value |= (bit ? 1U : 0) << i;
    }
    return value;
  }
  void write_byte(unsigned cpu, std::uint32_t offset, std::uint32_t value) {
    if (offset == 0x000) control_ = value & 3;
    if (offset >= 0x080 && offset < 0x400) write_bits(cpu, offset, value);
    if (offset >= 0x400 && offset < 0x400 + kInterrupts) at(cpu, offset - 0x400).priority = value & 0xf8;
    if (offset >= 0x820 && offset < 0x800 + kInterrupts && cpus_ > 1) {
      at(cpu, offset - 0x800).targets = value & ((1U << cpus_) - 1);
    }
    if (offset >= 0xc08 && offset < 0xc00 + kInterrupts / 4) {
      for (unsigned i = 0; i < 4; ++i) at(cpu, 4 * (offset - 0xc00) + i).edge = (value >> 2 * i & 2) != 0;
    }
    if (offset >= 0xf10 && offset < 0xf30) {
      for (unsigned c = 0; c < cpus_; ++c) {
        if ((value >> c & 1) != 0) at(cpu, offset & 0xf).from[c] = offset >= 0xf20;
      }
    }
  }
  void write_bits(unsigned cpu, std::uint32_t offset, std::uint32_t value) {
    for (unsigned i = 0; i < 8; ++i) {
      const unsigned number = 8 * (offset & 0x7f) + i;
      if (number >= kInterrupts) return;
      Interrupt& one = at(cpu, number);
      const bool bit = (value >> i & 1) != 0;
      if ((offset & 0x380) == 0x080) one.group1 = bit;
      if (!bit) continue;
      switch (offset & 0x380) {
        case 0x100:
          one.enabled = true;
          break;
        case 0x180:
          one.enabled = number < 16;
          break;
        case 0x200:
          one.latched |= number >= 16;
          break;
        case 0x280:
          one.latched = false;
          break;
        case 0x300:
          one.active = true;
          break;
        case 0x380:
          one.active = false;
          break;
        default:
          break;
      }
    }
  }
  void send(unsigned cpu, std::uint32_t value) {
    const unsigned filter = value >> 24 & 3;
    for (unsigned c = 0; c < cpus_; ++c) {
      const bool sent = filter == 0 ? (value >> 16 >> c & 1) != 0 : filter == 1 ? c != cpu : filter == 2 && c == cpu;
      if (sent) at(c, value & 0xf).from[cpu] = true;
    }
  }

  const unsigned cpus_;
  std::uint32_t control_ = 0;
  std::vector<std::array<Interrupt, 32>> private_;
  std::array<Interrupt, kInterrupts> shared_;
  std::vector<std::vector<Candidate>> running_;
};

}  // namespace cadastre
