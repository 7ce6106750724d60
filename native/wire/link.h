// What one link is like: round trip, loss each way, goodput; and how much parity that calls for.
#pragma once

#include <cstdint>

#include "wire/packet.h"

namespace halo {

// Smoothed round trip and its variation, as RFC 6298 has them, with the finest clock there is.
class RoundTrip {
 public:
  void sample(Micros rtt);
  bool known() const { return smoothed_ >= 0; }
  Micros smoothed() const { return known() ? smoothed_ : kFirst; }
  Micros variation() const { return known() ? variation_ : kFirst / 2; }
  // How long to wait for an answer that the other end gives at once: at least `floor` beyond the round trip.
  Micros patience(Micros floor) const;

 private:
  static constexpr Micros kFirst = 20000;
  Micros smoothed_ = -1, variation_ = 0;
};

// Loss of the packets that come in, told from the gaps in their numbers. A packet counts as lost once 16 later ones
// have come, so that reordering is not taken for loss.
class LossMeter {
 public:
  void received(uint64_t number);
  double loss() const { return loss_; }    // share, 0 to 1
  double burst() const { return burst_; }  // mean packets lost in a row, at least 1

 private:
  void judge(bool arrived);

  static constexpr int kSettled = 16;
  uint64_t newest_ = 0, judged_ = 0;
  uint64_t mask_ = 0;  // bit i: packet newest_ - i has come
  double loss_ = 0, fast_ = 0, burst_ = 1;
  int samples_ = 0, runs_ = 0;
  bool last_lost_ = false;
};

// What the other end measures of the packets that we send, as it tells in every packet header.
struct Loss {
  double share = 0, burst = 1;
};

// How a message is cut and with how much parity it goes: whatever takes the fewest bytes, where a packet counts for
// some more than it has, and meets the aim of `parity_for`. A few more and smaller fragments make parity cheaper.
struct Sending {
  Cut cut;
  int parity;
};
Sending sending_of(size_t length, const Loss& loss);

// Parity fragments with which `data` fragments arrive at the first try but once in 200 times, as long as up to
// kMaxParity can do that.
int parity_for(int data, const Loss& loss);

// Fragments to send again where `missing` are: more than that on a link that loses repairs, too.
int repairs_for(int missing, const Loss& loss);

}  // namespace halo
