#include "schedule/deadline.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace halo {

namespace {

constexpr double kLongest = 60e6;     // a minute, as an error and as an allowance
constexpr double kMargin = 1000;      // beyond the longest wait
constexpr double kOverhead = 2000;    // of a stand-in, beside twice its time: the hub has own work to do
constexpr double kConsidered = 0.95;  // quantile from which on errors are candidates
constexpr double kWasted = 0.5;       // of its time: how far a stand-in has to go on average when it is overtaken

double time_of(double us) { return us > 0 ? std::min(us, kLongest) : 0; }  // not a number: 0

}  // namespace

void Deadline::sample(double error_us) {
  if (std::isnan(error_us)) return;
  errors_[next_] = static_cast<float>(std::clamp(error_us, -kLongest, kLongest));
  next_ = (next_ + 1) % kMemory;
  count_ = std::min(count_ + 1, kMemory);
  since_ = std::min(since_ + 1, kEvery);
}

double Deadline::allowance(double predicted_us, double stand_in_us) {
  if (count_ < kEnough) return std::max(kLeast, 2 * time_of(predicted_us));
  const double stand_in = time_of(stand_in_us);
  // Choosing is worth repeating for a stand-in of another length, too: a deadline for short ones is wrong for long
  // ones.
  if (since_ == kEvery || stand_in > 2 * chosen_for_ + kMargin || 2 * stand_in + kMargin < chosen_for_) {
    chosen_ = cheapest(stand_in);
    chosen_for_ = stand_in;
    since_ = 0;
  }
  return chosen_;
}

double Deadline::cheapest(double stand_in_us) const {
  std::array<float, kMemory> sorted = errors_;
  std::sort(sorted.begin(), sorted.begin() + count_);
  double best = kLeast, least = std::numeric_limits<double>::infinity();
  for (int i = static_cast<int>(kConsidered * count_); i < count_; ++i) {
    // Between this error and the next, so that one like it is still waited for.
    const double gap = i + 1 < count_ ? (double{sorted[i + 1]} - sorted[i]) / 2 : kMargin;
    const double deadline = std::max(kLeast, sorted[i] + std::min(gap, kMargin));
    const double stood_in = deadline + 2 * stand_in_us + kOverhead;
    double cost = 0;  // only of those among the candidates: the others are waited for in any case
    for (int j = static_cast<int>(kConsidered * count_); j < count_; ++j) {
      const double late = sorted[j];
      cost += late <= deadline ? late : std::min(late + kWasted * stand_in_us, stood_in);
    }
    if (cost <= least) least = cost, best = deadline;  // of two that cost the same, the one with fewer stand-ins
  }
  return std::min(best, kLongest);
}

}  // namespace halo
