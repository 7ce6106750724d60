// Who computes which groups in a sync.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <vector>

namespace halo {

class Assigner {
 public:
  virtual ~Assigner() = default;
  // Sets masks[i] for device i (0 is the hub) so that every group is in exactly one of them.
  virtual void assign(int layer, int groups, std::vector<uint64_t>& masks) = 0;
};

// The hub computes its share of the groups of every layer and part, and the workers equal shares of the rest; the same
// at every token, so that a device needs the same weights again. What does not divide is spread over the layers.
class EvenAssigner : public Assigner {
 public:
  // `hub_share` from 0 to 1; none: as much as a worker.
  explicit EvenAssigner(std::optional<double> hub_share = {}) : hub_share_(hub_share) {}

  void assign(int layer, int groups, std::vector<uint64_t>& masks) override {
    const int workers = static_cast<int>(masks.size()) - 1;
    const int own = workers == 0 ? groups : of_hub(layer + 1, groups, workers) - of_hub(layer, groups, workers);
    const int rest = groups - own;
    for (uint64_t& m : masks) m = 0;
    for (int g = 0; g < own; ++g) masks[0] |= uint64_t{1} << g;
    for (int g = 0; g < rest; ++g) masks[1 + (g * workers / rest + layer) % workers] |= uint64_t{1} << (own + g);
  }

 private:
  // The hub's groups in all layers before this one, if each has so many.
  int of_hub(int layer, int groups, int workers) const {
    const double share = hub_share_.value_or(1.0 / (workers + 1));
    return static_cast<int>(share * groups * layer + 1e-6);  // 1/3 of 30 is 10, not 9.999...
  }

  std::optional<double> hub_share_;
};

// Every group to a device drawn at random, at every sync: what tests hold the results' sameness against.
class RandomAssigner : public Assigner {
 public:
  explicit RandomAssigner(uint64_t seed) : random_(seed) {}
  void assign(int, int groups, std::vector<uint64_t>& masks) override {
    for (uint64_t& m : masks) m = 0;
    for (int g = 0; g < groups; ++g) masks[random_() % masks.size()] |= uint64_t{1} << g;
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace halo
