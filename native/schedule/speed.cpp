#include "schedule/speed.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace halo {

namespace {

constexpr double kMemory = 64;          // samples a line stands for
constexpr double kDisturbed = 1.0 / 8;  // weight of a sample while the device is not as usual
constexpr double kUnusual = 0.405;      // log(1.5)
constexpr double kMostLog = 2.773;      // log(16): factors beyond it are no measurement
constexpr double kNoise = 0.15;         // logs of about this size are noise
constexpr double kGain = 0.25;
constexpr double kOutlier = 3;     // times the prediction: what is beyond it counts as this
constexpr double kLongest = 60e6;  // a minute
constexpr double kPrior =
    1.0 / 64;  // weight of "a request costs nothing before its first group", in shares of all samples
constexpr double kLeastShare = 16;  // a group adds at least 1/16 of the mean time by the mean number of groups and one
constexpr double kGuess = 4;        // where nothing tells what a group adds: a quarter of a request without any
constexpr double kPerSize = 1.5;    // twice the rows take about 1.5 times as long: weights are read once

}  // namespace

void Speed::sample(int kind, int groups, double took_us) {
  if (!in_range(kind) || !(took_us >= 0 && took_us <= 1e15)) return;
  Fit& fit = fits_[kind];
  const double n = std::max(groups, 0);
  const double took = std::clamp(took_us, 1.0, kLongest);
  if (fit.samples < kYoung) {  // what is new is not learned as slow as the device may be just now
    const double usual = took / factor();
    // The first requests bring weights from a disk: whatever is so much faster is what the device can do.
    if (fit.samples > 0 && usual < (fit.line.base + n * fit.line.slope) / 2) fit = Fit{};
    fit.add(n, usual, 1);
    ++fit.samples;
    return;
  }
  const double expected = std::max(fit.line.base + n * fit.line.slope, 1.0);
  // Nothing passing makes a device faster than it is: then the line is of other times, and has to follow at once.
  fit.fast_in_row = took < expected / 2 ? fit.fast_in_row + 1 : 0;
  if (fit.fast_in_row == kYoung) {
    fit.scale(took / expected);
    log_factor_ = std::max(log_factor_, 0.0);
    last_logs_.fill(log_factor_);
    return;
  }
  const bool unusual = std::fabs(log_factor_) > kUnusual;
  fit.add(n, std::min(took, kOutlier * expected * std::max(factor(), 1.0)), unusual ? kDisturbed : 1);
  follow(took / expected);
}

// An average of the medians of three: one outlier is none of the device's speed.
void Speed::follow(double ratio) {
  last_logs_[logs_++ % 3] = std::clamp(std::log(ratio), -kMostLog, kMostLog);
  logs_ %= 3;
  const auto& [a, b, c] = last_logs_;
  const double median = std::max(std::min(a, b), std::min(std::max(a, b), c));
  log_factor_ += kGain * (median - log_factor_);
}

// Small deviations count for less than large ones, lest noise moves the groups to and fro; the line follows what stays.
double Speed::factor() const {
  const double square = log_factor_ * log_factor_;
  return std::exp(log_factor_ * square / (square + kNoise * kNoise));
}

void Speed::Fit::add(double groups, double took, double weight_of_sample) {
  weight = weight * (1 - weight_of_sample / kMemory) + weight_of_sample;
  const double share = weight_of_sample / weight;
  n += share * (groups - n);
  t += share * (took - t);
  nn += share * (groups * groups - nn);
  nt += share * (groups * took - nt);
  draw_line();
}

// As if every sample had taken `ratio` times as long; soon outweighed by what comes.
void Speed::Fit::scale(double ratio) {
  t *= ratio;
  nt *= ratio;
  weight = std::min<double>(weight, kYoung);
  fast_in_row = 0;
  draw_line();
}

// The base and slope that minimise mean((t - base - n * slope)^2) + prior * base^2: with n constant all is slope, with
// n varying the prior hardly matters. Neither is negative, nor a group free of cost.
void Speed::Fit::draw_line() {
  if (nn < 1e-9) {
    line = {t, t / kGuess};
    return;
  }
  const double determinant = (1 + kPrior) * nn - n * n;  // at least kPrior * nn, as nn >= n^2
  const double slope = ((1 + kPrior) * nt - n * t) / determinant;
  const double least = t / (kLeastShare * (1 + n));
  line.slope = std::clamp(slope, least, nt / nn);  // of a base of 0: nt / nn
  line.base = std::max(0.0, t - n * line.slope);
}

// A kind's own line once it is known; until then the faster of its own and of the nearest known kind's.
Speed::Line Speed::line(int kind) const {
  if (!in_range(kind)) return {};
  const Fit& own = fits_[kind];
  if (own.samples >= kYoung) return own.line;
  int nearest = 0, least = kKinds * kKinds;
  for (int other = 1; kind > 0 && other < kKinds; ++other) {
    if (!known(other)) continue;
    const bool same_part = (other - 1) / kSizeClasses == (kind - 1) / kSizeClasses;
    const int distance =
        std::abs((other - 1) % kSizeClasses - (kind - 1) % kSizeClasses) + (same_part ? 0 : kSizeClasses);
    if (distance < least) nearest = other, least = distance;
  }
  if (nearest == 0) return own.line;
  const double scale = std::pow(kPerSize, (kind - 1) % kSizeClasses - (nearest - 1) % kSizeClasses);
  const Line guess{fits_[nearest].line.base * scale, fits_[nearest].line.slope * scale};
  if (own.samples == 0) return guess;
  return {std::min(own.line.base, guess.base), std::min(own.line.slope, guess.slope)};
}

}  // namespace halo
