// How far a worker can be relied on, told from what it answers: pure bookkeeping, times come from the caller.
#pragma once

#include <algorithm>
#include <cstdint>

namespace halo {

enum class Standing : uint8_t {
  Stable,     // is asked for groups
  Probation,  // has missed a deadline: it is told the attention inputs, whose answers show when it is back
  Away,       // has been silent for long: only a probe now and then
  Gone,       // has left, by what the control plane says
  Expelled,   // its answers cannot be used
};

// Whoever misses a deadline is on probation until it answers; whoever misses them again and again has to answer more
// often: 1, 2, 4 ... 64 times. So a worker that flaps costs a wait less and less often.
class Conduct {
 public:
  explicit Conduct(double now_us) : since_us_(now_us) {}

  Standing standing() const { return standing_; }
  bool is_here() const { return standing_ < Standing::Away; }
  double since_us() const { return since_us_; }
  uint64_t probations() const { return probations_; }

  // A deadline has passed without an answer.
  void missed(double now_us) {
    if (standing_ == Standing::Stable) fall(Standing::Probation, now_us);
    good_ = 0;
  }

  // An answer has come.
  void answered(double now_us) {
    if (standing_ == Standing::Stable && ++good_ >= kForgive) {
      good_ = 0;
      strikes_ = std::max(strikes_ - 1, 0);
    }
    if (standing_ == Standing::Away) enter(Standing::Probation, now_us);
    if (standing_ == Standing::Probation && --needed_ <= 0) enter(Standing::Stable, now_us);
  }

  // Nothing has been heard for long although an answer is owed.
  void silent(double now_us) {
    if (standing_ == Standing::Stable) {
      fall(Standing::Away, now_us);
    } else if (standing_ == Standing::Probation) {
      enter(Standing::Away, now_us);
    }
  }

  void left(double now_us) {
    if (standing_ != Standing::Expelled) enter(Standing::Gone, now_us);
  }
  void came_back(double now_us) {
    if (standing_ == Standing::Gone) on_trial(now_us);
  }
  // Whoever comes while others work is waited for once it has answered anything.
  void on_trial(double now_us) {
    enter(Standing::Probation, now_us);
    needed_ = 1;
  }
  void expelled(double now_us) { enter(Standing::Expelled, now_us); }

 private:
  void fall(Standing to, double now_us) {
    enter(to, now_us);
    ++probations_;
    needed_ = 1 << strikes_;
    strikes_ = std::min(strikes_ + 1, kMostStrikes);
  }
  void enter(Standing standing, double now_us) {
    if (standing == standing_) return;
    standing_ = standing;
    since_us_ = now_us;
  }

  static constexpr int kMostStrikes = 6;
  static constexpr int kForgive = 32;  // answers in time that take back a strike

  Standing standing_ = Standing::Stable;
  double since_us_;
  int needed_ = 0, strikes_ = 0, good_ = 0;
  uint64_t probations_ = 0;
};

}  // namespace halo
