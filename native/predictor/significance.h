// Which MLP groups matter for this token: predicted from the layer input, before they are computed.
#pragma once

#include <cstdint>
#include <vector>

namespace halo {

// What a sidecar knows of a model's MLP groups (docs/predictor.md).
struct SidecarTables {
  struct Layer {
    int groups = 0;
    std::vector<float> mean;          // (groups, d) output
    std::vector<float> predictor;     // (groups, d)
    std::vector<float> bias;          // (groups)
    std::vector<float> significance;  // (groups) mean distance of the output from its mean; 0: the group is empty
    uint64_t empty = 0;               // set by `finish`
  };

  int d = 0;
  std::vector<Layer> layers;

  // Checks every size and value, and fills the derived fields; throws std::invalid_argument.
  void finish();
};

class Significance {
 public:
  virtual ~Significance() = default;

  // scores (groups): the logarithm of how far each group's output is expected to be from its mean, for the normed layer
  // input (d). Scores are compared within a layer only.
  virtual void predict(int layer, const float* normed, float* scores) const = 0;
};

// predictor * normed + bias: the same bits on every device. The tables must outlive it.
class LinearSignificance : public Significance {
 public:
  explicit LinearSignificance(const SidecarTables& tables) : tables_(tables) {}

  void predict(int layer, const float* normed, float* scores) const override;

 private:
  const SidecarTables& tables_;
};

}  // namespace halo
