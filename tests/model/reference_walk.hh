// A second translation of guest addresses, slow and plain, for the walker to be held against: fields by name and number
// as the architecture's tables have them, one decision a line, no code in common with mm/guest_walk.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "mm/base/access.hh"

namespace cadastre::model {

// Guest-physical memory: pages by IPA, words by physical address.
struct GuestMemory {
  struct Page {
    std::uint64_t frame;  // physical address
    bool read;
    bool write;
    bool execute;
    unsigned memattr;  // MemAttr[3:0]
    unsigned sh;
    unsigned level;
  };
  std::map<std::uint64_t, Page> pages;           // by IPA >> 12
  std::map<std::uint64_t, std::uint64_t> words;  // 64 bits at a physical address; absent: zero
  std::map<std::uint64_t, bool> nothing;         // frames that no RAM is behind
  unsigned missing_level = 3;

  std::uint64_t word(std::uint64_t physical) const {
    const auto found = words.find(physical & ~7ULL);
    return found == words.end() ? 0 : found->second;
  }
  void set32(std::uint64_t physical, std::uint32_t value) {
    std::uint64_t& at = words[physical & ~7ULL];
    const unsigned shift = (physical & 4) != 0 ? 32 : 0;
    at = (at & ~(0xffff'ffffULL << shift)) | std::uint64_t{value} << shift;
  }
};

struct Registers {
  std::uint32_t sctlr, ttbcr, dacr, prrr, nmrr, hcr;
  std::uint64_t ttbr0, ttbr1;
};

// "ok" or the fault's name, with the fields that go with it. Compared as a whole.
struct Answer {
  std::string what = {};
  std::uint64_t physical = 0;
  unsigned mair = 0;
  unsigned sh = 0;
  unsigned level = 0;
  unsigned domain = 0;
  bool stage2 = false;
  bool on_walk = false;
  friend bool operator==(const Answer&, const Answer&) = default;
};

class ReferenceWalk {
 public:
  ReferenceWalk(const Registers& registers, const GuestMemory& memory, Access access, Privilege privilege)
      : r_(registers), memory_(memory), access_(access), user_(privilege == Privilege::kUser) {}

  Answer translate(std::uint32_t va) {
    if (bit(r_.sctlr, 0) == 0 || bit(r_.hcr, 12) == 1) {
      ipa_ = va;
      if (bit(r_.hcr, 12) == 1) {
        mair_ = 0xff;
        sh_ = 0;
      } else if (access_ == Access::kExecute) {
        mair_ = bit(r_.sctlr, 12) == 1 ? 0xee : 0x44;
        sh_ = 2;
      } else {
        mair_ = 0;
        sh_ = 2;
      }
      return stage2();
    }
    return bit(r_.ttbcr, 31) == 1 ? lpae(va) : classic(va);
  }

 private:
  static unsigned bit(std::uint64_t value, unsigned n) { return value >> n & 1; }
  static std::uint64_t bits(std::uint64_t value, unsigned high, unsigned low) {
    return value >> low & ((2ULL << (high - low)) - 1);
  }
  Answer fault(const char* what, unsigned level, unsigned domain = 0) const {
    return {.what = what, .level = level, .domain = domain};
  }

  // A table fetch; sets fetched_, or returns the fault.
  std::optional<Answer> fetch(std::uint64_t ipa, unsigned level, unsigned size, unsigned domain = 0) {
    const auto page = memory_.pages.find(ipa >> 12);
    Answer bad{.domain = domain, .stage2 = true, .on_walk = true};
    if (page == memory_.pages.end()) {
      bad.what = "translation";
      bad.level = memory_.missing_level;
      return bad;
    }
    const bool device = page->second.memattr == 0 || page->second.memattr == 1;
    if (!page->second.read || (bit(r_.hcr, 2) == 1 && device)) {
      bad.what = "permission";
      bad.level = page->second.level;
      return bad;
    }
    const std::uint64_t physical = page->second.frame + (ipa & 0xfff);
    if (memory_.nothing.contains(page->second.frame)) return fault("external", level, domain);
    const std::uint64_t word = memory_.word(physical);
    fetched_ = size == 8 ? word : (physical & 4) != 0 ? word >> 32 : word & 0xffff'ffff;
    if (bit(r_.sctlr, 25) == 1) {
      std::uint64_t swapped = 0;
      for (unsigned i = 0; i < size; ++i) swapped |= bits(fetched_, 8 * i + 7, 8 * i) << 8 * (size - 1 - i);
      fetched_ = swapped;
    }
    return std::nullopt;
  }

  // [ARMv7 B3.5.5]
  Answer classic(std::uint32_t va) {
    const auto n = static_cast<unsigned>(bits(r_.ttbcr, 2, 0));
    std::uint64_t table = 0;
    if (n == 0 || bits(va, 31, 32 - n) == 0) {
      if (bit(r_.ttbcr, 4) == 1) return fault("translation", 1);
      table = bits(r_.ttbr0, 31, 14 - n) << (14 - n) | bits(va, 31 - n, 20) << 2;
    } else {
      if (bit(r_.ttbcr, 5) == 1) return fault("translation", 1);
      table = bits(r_.ttbr1, 31, 14) << 14 | bits(va, 31, 20) << 2;
    }
    if (const auto bad = fetch(table, 1, 4)) return *bad;
    const std::uint64_t first = fetched_;
    unsigned level = 1;
    unsigned domain = 0;
    unsigned ap = 0;
    unsigned tex = 0;
    unsigned c = 0;
    unsigned b = 0;
    unsigned s = 0;
    unsigned xn = 0;
    unsigned pxn = 0;
    if (bits(first, 1, 0) == 0) return fault("translation", 1);
    if (bits(first, 1, 0) == 1) {
      level = 2;
      domain = static_cast<unsigned>(bits(first, 8, 5));
      if (const auto bad = fetch(bits(first, 31, 10) << 10 | bits(va, 19, 12) << 2, 2, 4, domain)) return *bad;
      const std::uint64_t page = fetched_;
      if (bits(page, 1, 0) == 0) return fault("translation", 2, domain);
      ap = bit(page, 9) << 2 | static_cast<unsigned>(bits(page, 5, 4));
      c = bit(page, 3);
      b = bit(page, 2);
      s = bit(page, 10);
      pxn = bit(first, 2);
      if (bits(page, 1, 0) == 1) {
        ipa_ = bits(page, 31, 16) << 16 | bits(va, 15, 0);
        tex = static_cast<unsigned>(bits(page, 14, 12));
        xn = bit(page, 15);
      } else {
        ipa_ = bits(page, 31, 12) << 12 | bits(va, 11, 0);
        tex = static_cast<unsigned>(bits(page, 8, 6));
        xn = bit(page, 0);
      }
    } else {
      if (bit(first, 18) == 0) {
        domain = static_cast<unsigned>(bits(first, 8, 5));
        ipa_ = bits(first, 31, 20) << 20 | bits(va, 19, 0);
      } else {
        ipa_ = bits(first, 8, 5) << 36 | bits(first, 23, 20) << 32 | bits(first, 31, 24) << 24 | bits(va, 23, 0);
      }
      ap = bit(first, 15) << 2 | static_cast<unsigned>(bits(first, 11, 10));
      tex = static_cast<unsigned>(bits(first, 14, 12));
      c = bit(first, 3);
      b = bit(first, 2);
      s = bit(first, 16);
      xn = bit(first, 4);
      pxn = bit(first, 0);
    }
    const unsigned afe = bit(r_.sctlr, 29);
    if (afe == 1 && (ap & 1) == 0) return fault("access flag", level, domain);
    const std::uint64_t domain_access = bits(r_.dacr, 2 * domain + 1, 2 * domain);
    if (domain_access == 0 || domain_access == 2) return fault("domain", level, domain);
    if (domain_access == 1) {
      // [ARMv7 Table B3-8], and with AFE [Table B3-6].
      bool privileged_read = true;
      bool privileged_write = true;
      bool user_read = true;
      bool user_write = true;
      switch (afe == 1 ? ap | 1 : ap) {
        case 0:
          privileged_read = privileged_write = user_read = user_write = false;
          break;
        case 1:
          user_read = user_write = false;
          break;
        case 2:
          user_write = false;
          break;
        case 3:
          break;
        case 4:
          privileged_read = privileged_write = user_read = user_write = false;
          break;
        case 5:
          privileged_write = user_read = user_write = false;
          break;
        default:
          privileged_write = user_write = false;
          break;
      }
      if (!permitted(privileged_read, privileged_write, user_read, user_write, xn == 1, pxn == 1)) {
        return fault("permission", level, domain);
      }
    }
    if (bit(r_.sctlr, 28) == 1) {
      remapped(tex, c, b, s);
    } else {
      plain(tex, c, b, s);
    }
    return stage2();
  }

  // [ARMv7 B3.6.5 and on]
  Answer lpae(std::uint32_t va) {
    const auto t0 = static_cast<unsigned>(bits(r_.ttbcr, 2, 0));
    const auto t1 = static_cast<unsigned>(bits(r_.ttbcr, 18, 16));
    const std::uint64_t low_end = 1ULL << (32 - t0);
    const std::uint64_t high_start = t1 == 0 ? low_end : (1ULL << 32) - (1ULL << (32 - t1));
    std::uint64_t base = 0;
    unsigned width = 0;
    if (va >= high_start) {
      if (bit(r_.ttbcr, 23) == 1) return fault("translation", 1);
      base = r_.ttbr1;
      width = 32 - t1;
    } else if (va < low_end) {
      if (bit(r_.ttbcr, 7) == 1) return fault("translation", 1);
      base = r_.ttbr0;
      width = 32 - t0;
    } else {
      return fault("translation", 1);
    }
    unsigned level = width >= 31 ? 1 : 2;
    unsigned top = width - 1;
    const unsigned lowest = level == 1 ? width - 27 : width - 18;  // BADDR's lowest bit
    std::uint64_t table = bits(base, 39, lowest) << lowest;
    bool no_user = false;
    bool no_write = false;
    bool xn = false;
    bool pxn = false;
    for (;; ++level) {
      const unsigned shift = 39 - 9 * level;
      if (const auto bad = fetch(table | bits(va, top, shift) << 3, level, 8)) return *bad;
      const std::uint64_t d = fetched_;
      if (bit(d, 0) == 0 || (level == 3 && bit(d, 1) == 0)) return fault("translation", level);
      if (level == 3 || bit(d, 1) == 0) {
        if (bit(d, 10) == 0) return fault("access flag", level);
        ipa_ = bits(d, 39, shift) << shift | bits(va, shift - 1, 0);
        const bool user = bit(d, 6) == 1 && !no_user;
        const bool write = bit(d, 7) == 0 && !no_write;
        if (!permitted(true, write, user, user && write, xn || bit(d, 54) == 1, pxn || bit(d, 53) == 1)) {
          return fault("permission", level);
        }
        const auto index = static_cast<unsigned>(bits(d, 4, 2));
        const std::uint64_t mair = std::uint64_t{r_.nmrr} << 32 | r_.prrr;
        mair_ = static_cast<unsigned>(bits(mair, 8 * index + 7, 8 * index));
        sh_ = static_cast<unsigned>(bits(d, 9, 8));
        return stage2();
      }
      pxn = pxn || bit(d, 59) == 1;
      xn = xn || bit(d, 60) == 1;
      no_user = no_user || bit(d, 61) == 1;
      no_write = no_write || bit(d, 62) == 1;
      table = bits(d, 39, 12) << 12;
      top = shift - 1;
    }
  }

  bool permitted(bool privileged_read, bool privileged_write, bool user_read, bool user_write, bool xn,
                 bool pxn) const {
    const bool read = user_ ? user_read : privileged_read;
    const bool write = user_ ? user_write : privileged_write;
    if (access_ == Access::kRead) return read;
    if (access_ == Access::kWrite) return write;
    if (!read || xn) return false;
    if (bit(r_.sctlr, 19) == 1 && write) return false;
    if (user_) return true;
    return !pxn && !(bit(r_.sctlr, 20) == 1 && user_write);
  }

  // [ARMv7 Table B3-10]
  void plain(unsigned tex, unsigned c, unsigned b, unsigned s) {
    static constexpr unsigned kNibble[4] = {0x4, 0xf, 0xa, 0xe};
    sh_ = s == 1 ? 2 : 0;
    if (tex >= 4) {
      mair_ = kNibble[tex - 4] << 4 | kNibble[c << 1 | b];
    } else if (tex == 0 && c == 1) {
      mair_ = b == 1 ? 0xee : 0xaa;
    } else if (tex == 1 && c == b) {
      mair_ = b == 1 ? 0xff : 0x44;
    } else {
      mair_ = (tex == 0 && b == 1) || (tex == 2 && c == 0 && b == 0) ? 0x04 : 0x00;
      sh_ = 2;
    }
  }
  // [ARMv7 B3.8.3]
  void remapped(unsigned tex, unsigned c, unsigned b, unsigned s) {
    static constexpr unsigned kNibble[4] = {0x4, 0xf, 0xa, 0xe};
    const unsigned n = (tex & 1) * 4 + c * 2 + b;
    const std::uint64_t type = bits(r_.prrr, 2 * n + 1, 2 * n);
    if (type == 1) {
      mair_ = 0x04;
      sh_ = 2;  // whatever DS0 and DS1 say, Device is outer shareable in the end
    } else if (type == 2) {
      mair_ = kNibble[bits(r_.nmrr, 2 * n + 17, 2 * n + 16)] << 4 | kNibble[bits(r_.nmrr, 2 * n + 1, 2 * n)];
      const bool shared = bit(r_.prrr, s == 1 ? 19 : 18) == 1;
      sh_ = !shared ? 0 : bit(r_.prrr, 24 + n) == 1 ? 3 : 2;
    } else {
      mair_ = 0;
      sh_ = 2;
    }
  }

  static unsigned weaker(unsigned s1, unsigned s2) {
    if (s1 == 4 || s2 == 1) return 4;
    if ((s1 & 8) == 0 || (s1 & 12) == 8) return s1;  // write-through already
    return s2 == 2 ? 8 | (s1 & 3) : s1;
  }

  Answer stage2() const {
    const auto page = memory_.pages.find(ipa_ >> 12);
    Answer answer{.stage2 = true};
    if (page == memory_.pages.end()) {
      answer.what = "translation";
      answer.level = memory_.missing_level;
      return answer;
    }
    const GuestMemory::Page& p = page->second;
    const bool allowed = access_ == Access::kRead ? p.read : access_ == Access::kWrite ? p.write : p.read && p.execute;
    if (!allowed) {
      answer.what = "permission";
      answer.level = p.level;
      return answer;
    }
    answer.what = "ok";
    answer.stage2 = false;
    answer.physical = p.frame + (ipa_ & 0xfff);
    const bool device1 = mair_ < 0x10;
    const bool device2 = p.memattr < 4;
    if (device1 || device2) {
      const unsigned first = device1 ? mair_ : 0xff;
      const unsigned second = device2 ? p.memattr * 4 : 0xff;
      answer.mair = std::min(first, second);
    } else {
      answer.mair = weaker(mair_ >> 4, p.memattr >> 2) << 4 | weaker(mair_ & 15, p.memattr & 3);
    }
    answer.sh = sh_ == 2 || p.sh == 2 ? 2 : sh_ == 3 || p.sh == 3 ? 3 : 0;
    if (answer.mair < 0x10 || answer.mair == 0x44) answer.sh = 2;
    return answer;
  }

  const Registers& r_;
  const GuestMemory& memory_;
  Access access_;
  bool user_;
  std::uint64_t fetched_ = 0;
  std::uint64_t ipa_ = 0;
  unsigned mair_ = 0;
  unsigned sh_ = 0;
};

}  // namespace cadastre::model
