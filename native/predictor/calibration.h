// What calibration learns from: sums over many tokens, per layer, of what the MLP groups give and of the layer input.
//
// Two passes over the same text: `MeanPass` learns the means, `FitPass` what the least-squares fit needs, whose targets
// are distances from those means. `MeasurePass` then tells how well a predictor ranks. All write to memory that the
// caller owns and may save between two forwards. Values at position 0 (the begin of sequence) are left out: they are
// unlike all others, and no generated token is ever there.
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
    float* h;              // (rows, d) the normed layer input, as the weights read it
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

// x is the layer input minus `centre`, y a group's target: log(distance of its output from its mean + floor).
class FitPass : public Calibration {
 public:
  struct Layer {
    const float* means;   // (groups, d)
    const float* centre;  // (d) near the mean input, so that little is lost where sums are subtracted
    const float* floor;   // (1)
    double* distances;    // (groups) sums, from here on
    double* targets;      // (groups) of y
    double* squares;      // (groups) of y^2
    double* inputs;       // (d) of x
    double* products;     // (groups, d) of y x
    float* gram;          // (triangle of d) of x x^T
  };
  FitPass(std::shared_ptr<const Model> model, std::vector<Layer> layers, std::shared_ptr<void> owner)
      : Calibration(std::move(model)), layers_(std::move(layers)), owner_(std::move(owner)) {}

 private:
  void learn(const Rows& rows, Threads& threads) override;

  std::vector<Layer> layers_;
  std::shared_ptr<void> owner_;
  std::vector<float> targets_;  // (rows, groups)
};

class MeasurePass : public Calibration {
 public:
  struct Layer {
    const float* means;    // (groups, d)
    const float* weights;  // (groups, d)
    const float* bias;     // (groups)
    float* distances;      // (tokens, groups) of each output from its mean
    float* scores;         // (tokens, groups) predicted log of the same
    size_t tokens;         // room; more are not measured
  };
  MeasurePass(std::shared_ptr<const Model> model, std::vector<Layer> layers, std::shared_ptr<void> owner)
      : Calibration(std::move(model)), layers_(std::move(layers)), owner_(std::move(owner)), done_(layers_.size(), 0) {}

 private:
  void learn(const Rows& rows, Threads& threads) override;

  std::vector<Layer> layers_;
  std::shared_ptr<void> owner_;
  std::vector<size_t> done_;  // tokens of each layer
};

}  // namespace halo
