// How long a hub waits for an overdue answer before a stand-in computes the same.
#pragma once

#include <array>

namespace halo {

// The soft deadline of one device's requests of one kind. Times are microseconds.
class Deadline {
 public:
  // An answer came `error_us` after the time predicted for it (before it: negative), however late.
  void sample(double error_us);

  // How long after the predicted arrival a stand-in begins, given that the prediction was `predicted_us` after the
  // sending and that a stand-in takes `stand_in_us`. At least kLeast, never infinite.
  //
  // A quantile alone would not do: where 2% of the requests are in fades of 20 ms, the 99.5% quantile is as long as the
  // fades it is to cut short. So, of the longest waits that the last answers needed, it is the one with which waiting
  // for all of them, and standing in for those beyond it, would have been cheapest.
  double allowance(double predicted_us, double stand_in_us);

 private:
  static constexpr int kMemory = 256, kEnough = 50, kEvery = 32;
  static constexpr double kLeast = 1000;

  double cheapest(double stand_in_us) const;

  std::array<float, kMemory> errors_{};
  int count_ = 0, next_ = 0;
  // Chosen from time to time only.
  int since_ = kEvery;
  double chosen_ = kLeast, chosen_for_ = 0;
};

}  // namespace halo
