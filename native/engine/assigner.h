// Who computes which groups in a sync.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

namespace halo {

class Assigner {
 public:
  virtual ~Assigner() = default;
  // Sets masks[i] for device i (0 is the hub) so that every group is in exactly one of them.
  virtual void assign(int layer, int groups, std::vector<uint64_t>& masks) = 0;
};

// Equal shares, the same at every token, so that a device needs the same weights again. Where groups are fewer than
// devices, layers take turns.
class EvenAssigner : public Assigner {
 public:
  void assign(int layer, int groups, std::vector<uint64_t>& masks) override {
    const size_t devices = masks.size();
    for (uint64_t& m : masks) m = 0;
    for (int g = 0; g < groups; ++g) masks[(g * devices / groups + layer) % devices] |= uint64_t{1} << g;
  }
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
