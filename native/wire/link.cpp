// The estimators of a link; no clocks and no sockets here.
#include "wire/link.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "wire/parity.h"

namespace halo {

namespace {

constexpr double kRepairShare = 0.005;  // of messages that may need a second try
constexpr size_t kPacketCost = 400;  // bytes that a packet is worth beyond its own, in time of the medium and of CPUs
constexpr int kFineCuts = 16;        // fragments up to which finer cuts are looked at
constexpr int kSlow = 2048, kFast = 128;  // packets over which loss is averaged
constexpr int kRuns = 16;                 // of lost packets, over which their length is averaged

// Probability that more than `spare` of `n` packets are lost on a Gilbert-Elliott link (lost packets come in runs of
// mean length `burst`).
double more_lost_than(int spare, int n, const Loss& loss) {
  const double leave = 1.0 / std::max(loss.burst, 1.0 / (1.0 - loss.share));  // independent losses run by chance
  const double enter = std::min(1.0, leave * loss.share / (1.0 - loss.share));
  std::vector<double> good(spare + 1, 0.0), bad(spare + 1, 0.0);  // by packets lost so far, and the last one's fate
  good[0] = 1.0 - loss.share;
  if (spare > 0) bad[1] = loss.share;
  for (int i = 1; i < n; ++i) {
    for (int lost = spare; lost >= 0; --lost) {
      const double from_less_good = lost > 0 ? good[lost - 1] : 0.0, from_less_bad = lost > 0 ? bad[lost - 1] : 0.0;
      good[lost] = good[lost] * (1.0 - enter) + bad[lost] * leave;
      bad[lost] = from_less_good * enter + from_less_bad * (1.0 - leave);
    }
  }
  double within = 0.0;
  for (int lost = 0; lost <= spare; ++lost) within += good[lost] + bad[lost];
  return 1.0 - within;
}

}  // namespace

void RoundTrip::sample(Micros rtt) {
  rtt = std::max<Micros>(rtt, 1);
  if (!known()) {
    smoothed_ = rtt;
    variation_ = rtt / 2;
    return;
  }
  variation_ += (std::abs(rtt - smoothed_) - variation_) / 4;
  smoothed_ += (rtt - smoothed_) / 8;
}

Micros RoundTrip::patience(Micros floor) const { return smoothed() + std::max(4 * variation(), floor); }

void LossMeter::received(uint64_t number) {
  if (newest_ == 0) {  // the first: what came before is unknown
    newest_ = judged_ = number;
    mask_ = 1;
    return;
  }
  if (number <= newest_) {
    if (newest_ - number < 64) mask_ |= uint64_t{1} << (newest_ - number);
    return;
  }
  while (newest_ < number) {
    ++newest_;
    mask_ = mask_ << 1 | (newest_ == number ? 1 : 0);
    if (newest_ - judged_ > kSettled) {
      ++judged_;
      judge(mask_ >> (newest_ - judged_) & 1);
    }
    if (number - newest_ > 100000) newest_ = judged_ = number - 1, mask_ = 0;  // no link loses so many: not counted
  }
}

void LossMeter::judge(bool arrived) {
  const double x = arrived ? 0.0 : 1.0;
  // Packets that are lost together tell less than as many that are lost one by one.
  const int fast = std::min(static_cast<int>(kFast * burst_), kSlow / 2);
  samples_ = std::min(samples_ + 1, kSlow);
  fast_ += (x - fast_) / std::min(samples_, fast);
  loss_ += (x - loss_) / samples_;
  // A few packets without a loss say nothing where few are lost.
  const bool less = loss_ * fast > 4 && fast_ < loss_ / 4;
  if (samples_ > fast && (fast_ > 1.5 * loss_ + 0.01 || less)) {
    loss_ = fast_;  // the link has changed: the average begins anew with the last packets
    samples_ = fast;
    runs_ = std::min(runs_, kRuns / 4);
  }
  if (!arrived && !last_lost_) {  // a run begins
    runs_ = std::min(runs_ + 1, kRuns);
    burst_ += (1.0 - burst_) / runs_;
  } else if (!arrived) {  // and goes on
    burst_ += 1.0 / runs_;
  }
  last_lost_ = !arrived;
}

namespace {

struct Protection {
  int parity;
  double failure;  // probability that the fragments do not suffice
};

Protection protection_of(int data, const Loss& loss) {
  if (loss.share <= 0.0) return {0, 0.0};
  const Loss bounded{std::min(loss.share, 0.5), loss.burst};
  for (int parity = 0;; ++parity) {
    const double failure = more_lost_than(parity, data + parity, bounded);
    if (failure <= kRepairShare || parity == kMaxParity) return {parity, failure};
  }
}

}  // namespace

int parity_for(int data, const Loss& loss) { return protection_of(data, loss).parity; }

Sending sending_of(size_t length, const Loss& loss) {
  const Cut fewest = cut(length);
  const Protection with_fewest = protection_of(fewest.data, loss);
  Sending best{fewest, with_fewest.parity};
  if (best.parity == 0 || fewest.data > kFineCuts) return best;
  const auto cost = [](const Sending& s) {
    return (s.cut.data + s.parity) * (s.cut.bytes + kPacketBytes + kPacketCost);
  };
  for (int more = 1; more <= 2; ++more) {
    const Cut finer = cut(length, fewest.data + more);
    const Protection protection = protection_of(finer.data, loss);
    if (protection.failure > std::max(kRepairShare, with_fewest.failure)) continue;
    const Sending other{finer, protection.parity};
    if (cost(other) < cost(best)) best = other;
  }
  return best;
}

int repairs_for(int missing, const Loss& loss) { return missing + parity_for(missing, loss); }

}  // namespace halo
