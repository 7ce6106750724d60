// What calibration learns from: per layer, what the MLP groups give, and the layer input.
//
// Two passes over the same text: `MeanPass` learns the means, `DistancePass` tells inputs and distances from those
// means, of which the caller makes a fit, or judges one. Both write to memory that the caller owns and may read between
// two forwards. Position 0 (the begin of sequence) is left out: it is unlike all others, and no generated token is ever
// there.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/device.h"
#include "engine/observer.h"
#include "kernels/kernels.h"

namespace halo {

// Collects the outputs of all of a layer's groups, and the layer input.
class Calibration : public Observer {
 public:
  explicit Calibration(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

  bool begin(const SyncInput& in, uint64_t mask) override;
  void output(int i, int t, int first, const float* values, int n) override;
  void end(const SyncInput& in, Threads& threads) override;

 protected:
  struct Rows {
    int layer, rows, d, groups;
    const float* h;        // (rows, d) the normed layer input, as the weights read it
    const float* outputs;  // (rows, groups, d)

    const float* output(int t, int g) const { return outputs + (size_t(t) * groups + g) * d; }
  };
  virtual void learn(const Rows& rows, Threads& threads) = 0;

 private:
  std::shared_ptr<const Model> model_;
  int groups_ = 0;              // of the present layer
  int first_ = 0;               // row of the compute that is looked at
  std::vector<float> h_;        // as in Rows
  std::vector<float> outputs_;  // as in Rows
};

class MeanPass : public Calibration {
 public:
  struct Layer {      // sums
    double* outputs;  // (groups, d)
    double* squares;  // (groups) of the norms
    double* inputs;   // (d)
  };
  MeanPass(std::shared_ptr<const Model> model, std::vector<Layer> layers, std::shared_ptr<void> owner)
      : Calibration(std::move(model)), layers_(std::move(layers)), owner_(std::move(owner)) {}

 private:
  void learn(const Rows& rows, Threads& threads) override;

  std::vector<Layer> layers_;
  std::shared_ptr<void> owner_;  // of the memory
};

// Writes the layer input of each token, and how far each group's output is from its mean.
class DistancePass : public Calibration {
 public:
  struct Layer {
    const float* means;  // (groups, d)
    float* inputs;       // (tokens, d)
    float* distances;    // (tokens, groups)
  };
  // `tokens`: room for so many; more are not written.
  DistancePass(std::shared_ptr<const Model> model, std::vector<Layer> layers, size_t tokens,
               std::shared_ptr<void> owner)
      : Calibration(std::move(model)),
        layers_(std::move(layers)),
        tokens_(tokens),
        owner_(std::move(owner)),
        done_(layers_.size(), 0) {}

  // Tokens written; and begins again with the first.
  size_t rewind();

 private:
  void learn(const Rows& rows, Threads& threads) override;

  std::vector<Layer> layers_;
  size_t tokens_;
  std::shared_ptr<void> owner_;
  std::vector<size_t> done_;  // tokens of each layer
};

}  // namespace halo
