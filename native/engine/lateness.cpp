#include "engine/lateness.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "engine/groups.h"

namespace halo {

Lateness::Lateness(const Options& options) : options_(options), random_(options.seed) {
  const double share = options.probability, mean = options.fade_syncs;
  if (!(share >= 0 && share <= 1)) throw std::invalid_argument("the probability must be from 0 to 1");
  if (!(mean >= 0 && std::isfinite(mean))) throw std::invalid_argument("fade_syncs must be 0 or more");
  if (options.devices < 1 || options.devices > 64) throw std::invalid_argument("devices must be 1 to 64");
  if (share == 0 || mean == 0) return;
  // A fade and the time before the next one last 1/ends and 1/begins in the mean, of which the fades are `share`. No
  // pause is shorter than a sync: where the fades leave less, they are longer.
  ends_ = std::min({1.0, 1 / mean, (1 - share) / share});
  begins_ = share == 1 ? 1 : ends_ * share / (1 - share);
  for (int i = 0; i < options.devices; ++i) fading_.push_back(random() < share);
}

double Lateness::random() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

void Lateness::tick() {
  for (size_t i = 0; i < fading_.size(); ++i) {
    if (random() < (fading_[i] ? ends_ : begins_)) fading_[i] = !fading_[i];
  }
}

uint64_t Lateness::draw(uint64_t groups) {
  uint64_t late = 0;
  const int count = __builtin_popcountll(groups);
  int i = 0;
  for_each_group(groups, [&](int g) {
    const bool is_late = fading_.empty() ? random() < options_.probability : fading_[i * fading_.size() / count];
    if (is_late) late |= uint64_t{1} << g;
    ++i;
  });
  return late;
}

}  // namespace halo
