// How long one device computes a request of so many groups: learned from what its answers say they took.
#pragma once

#include <array>
#include <cstdint>

#include "schedule/kind.h"

namespace halo {

// took = factor * (base + groups * slope). Base and slope belong to a kind and move slowly: a regression over about the
// last 64 requests. The factor is the whole device's and moves fast: how much slower it is just now than it usually is.
// Times are microseconds. Every estimate is finite and not negative, whatever is fed in.
class Speed {
 public:
  // A request of this kind and so many groups (none, too: an attention input is cached) took `took_us`. What is no
  // time at all (negative, not finite) teaches nothing.
  void sample(int kind, int groups, double took_us);

  double predict(int kind, int groups) const { return start_us(kind) + groups * group_us(kind); }
  // What a request costs before its first group, and what each group adds. Of a kind that is not `known` the nearest
  // known one gives an estimate, so that a device is tried rather than feared for its very first request, which may
  // have read every weight from a disk. 0 until there is any sample.
  double start_us(int kind) const { return factor() * line(kind).base; }
  double group_us(int kind) const { return factor() * line(kind).slope; }

  bool known(int kind) const { return in_range(kind) && fits_[kind].samples >= kYoung; }
  // How much slower the device is just now than usual; 1 within what is noise.
  double factor() const;

 private:
  static constexpr int kYoung = 4;  // samples before a kind is known

  struct Line {
    double base = 0, slope = 0;
  };
  // Weighted means of a kind's samples (n groups, t microseconds), and the line through them.
  struct Fit {
    int samples = 0;    // counted up to kYoung
    double weight = 0;  // of all samples that the means stand for; at most about 64
    double n = 0, t = 0, nn = 0, nt = 0;
    int fast_in_row = 0;  // samples in a row that took less than half of what the line says
    Line line;

    void add(double groups, double took, double weight_of_sample);
    void scale(double ratio);
    void draw_line();
  };

  static bool in_range(int kind) { return kind >= 0 && kind < kKinds; }
  Line line(int kind) const;
  void follow(double ratio);

  std::array<Fit, kKinds> fits_{};
  std::array<double, 3> last_logs_{};  // of the last ratios of took to the line
  int logs_ = 0;
  double log_factor_ = 0;
};

}  // namespace halo
