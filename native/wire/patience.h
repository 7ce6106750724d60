// How long an answer is waited for before its request is sent again: the smoothed reply time and four times its
// variation, as TCP does it (RFC 6298), for one worker.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>

#include "schedule/kind.h"

namespace halo {

class Patience {
 public:
  using Duration = std::chrono::steady_clock::duration;

  // The time after which a request that has been sent `times` times is sent once more.
  Duration wait(int kind, int times) const {
    const Estimate& e = estimates_[kind];
    if (!e.known) return kMost;
    Duration patience = e.smoothed + std::max<Duration>(kLeast, 4 * e.variation);
    for (int i = 1; i < times && patience < kMost; ++i) patience += patience / 2;
    return std::min<Duration>(patience, kMost);
  }

  // An answer came `since_first` after the first sending and `since_last` after the last one. When it was sent more
  // than once, it is clear which sending was answered only if the last one was a moment ago or the worker has said
  // "computing"; an answer that is not clear teaches nothing. Returns whether sending it again was needless.
  bool answered(int kind, Duration since_first, Duration since_last, int times, bool computing) {
    Estimate& e = estimates_[kind];
    const bool needless = times > 1 && (computing || since_last < e.smoothed / 2);
    if (times > 1 && !needless) return false;
    if (!e.known) {
      e = {true, since_first, since_first / 2};
      return needless;
    }
    const Duration error = since_first - e.smoothed;
    e.variation += (std::max(error, -error) - e.variation) / 4;
    e.smoothed += error / 8;
    return needless;
  }

 private:
  static constexpr std::chrono::milliseconds kLeast{3};   // above the smoothed time: a scheduler's whim is no loss
  static constexpr std::chrono::milliseconds kMost{500};  // also until the first answer

  struct Estimate {
    bool known = false;
    Duration smoothed{}, variation{};
  };
  std::array<Estimate, kKinds> estimates_;
};

}  // namespace halo
