// Lateness without a network, to measure what it costs in quality: draws which of a sync's groups are late.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace halo {

class Lateness {
 public:
  // What becomes of a late group: its mean now and the correction at the next sync, its mean alone, or nothing at all.
  enum class Drop { Correct, Mean, Zero };

  struct Options {
    double probability = 0;  // that a group is late; 0: none ever is
    uint64_t seed = 0;
    double fade_syncs = 0;  // mean length of a fade, in syncs; 0: every group at every sync is drawn for itself
    int devices = 4;        // that fade, each by itself, `probability` of the time, with all of their groups
    Drop drop = Drop::Correct;
    bool any_group = false;  // critical groups may be late as well
  };

  Lateness() = default;  // never late
  // Throws std::invalid_argument.
  explicit Lateness(const Options& options);

  const Options& options() const { return options_; }
  bool is_on() const { return options_.probability > 0; }

  // Once a sync, whether or not anything may be late in it: time passes.
  void tick();
  // Which of these groups are late now. With fades each device holds a run of them, all about as many.
  uint64_t draw(uint64_t groups);

 private:
  double random();  // 0 to 1, the same on every system

  Options options_;
  std::mt19937_64 random_;
  std::vector<bool> fading_;      // by device
  double begins_ = 0, ends_ = 0;  // probability that a fade does so at a sync
};

}  // namespace halo
