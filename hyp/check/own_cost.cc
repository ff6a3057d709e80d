#include "hyp/check/own_cost.hh"

#include <cstdint>
#include <string_view>

#include "arch/armv7/instruction_counter.hh"
#include "arch/armv7/machine.hh"
#include "hyp/core/console.hh"
#include "hyp/core/jobs.hh"
#include "hyp/guest/timers.hh"

namespace cadastre {
namespace {

// Nobody's: it is done when it is due, whoever runs.
class OwnCost final : public Job {
 public:
  void begin(const Period& period) {
    period_ = period;
    arch::count_own_instructions();
    add_job(*this, arch::machine.cpu());
  }
  [[nodiscard]] std::string_view name() const override { return "own cost"; }

 private:
  NextStep step() override {
    const std::uint64_t second = counts_per_second();
    if (now() < period_.from * second) return period_.from * second;
    if (!is_begun_) {
      is_begun_ = true;
      at_begin_ = arch::own_instructions();
      return period_.until * second;
    }
    if (now() < period_.until * second) return period_.until * second;
    console.print("own cost: {} instructions from second {} to {}", arch::own_instructions() - at_begin_, period_.from,
                  period_.until);
    return {};
  }

  Period period_;
  bool is_begun_ = false;
  std::uint32_t at_begin_ = 0;
};

OwnCost own_cost;

}  // namespace

void measure_own_cost(const Period& period) {
  own_cost.begin(period);
}

}  // namespace cadastre
