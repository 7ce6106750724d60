// Which MLP groups may be late in a relaxed sync, and what is added in their place.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/model.h"
#include "predictor/significance.h"

namespace halo {

class Tolerance {
 public:
  // Checks the tables against the model; throws std::invalid_argument. The quality is exact until `set_quality`.
  Tolerance(const Model& model, SidecarTables tables);

  // `share` (0 to 1) of each layer's groups may be late; 0: none, and no sync is relaxed. `planned`: they always are.
  void set_quality(double share, bool planned);
  bool planned() const { return planned_; }

  // Whether the MLP of this layer may be relaxed. The first one's errors cost most by far, and after the last one there
  // is no sync that could correct them.
  bool relaxes(int layer) const;

  // How many of the groups that are not empty are tolerant.
  int quota(int layer) const;
  uint64_t empty(int layer) const { return tables_.layers[layer].empty; }

  // The quota's groups with the lowest scores for this normed layer input (d), and all empty ones.
  uint64_t choose(int layer, const float* normed);
  // The scores of the last choice, lowest of all those of empty groups.
  const float* scores() const { return scores_.data(); }

  // How much of what a layer's groups vary by is in these: of the squares of their mean distances from the mean.
  double weight(int layer, uint64_t mask) const;

  // The sum of these groups' mean outputs (d), valid until the next call.
  const float* means(int layer, uint64_t mask);

 private:
  SidecarTables tables_;
  std::unique_ptr<Significance> significance_;
  double share_ = 0;
  bool planned_ = false;
  std::array<float, 64> scores_{};
  std::vector<float> sum_;  // (d)
};

}  // namespace halo
