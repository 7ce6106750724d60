#include "predictor/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "predictor/gram.h"

namespace halo {

namespace {

constexpr int kLanes = 16;  // sums that run beside each other: one after the other would wait for each addition

// |a - b|; b null: |a|
float distance(const float* a, const float* b, int n) {
  float lanes[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float difference = a[i + lane] - (b != nullptr ? b[i + lane] : 0.0f);
      lanes[lane] += difference * difference;
    }
  }
  for (int lane = 0; i < n; ++i, ++lane) {
    const float difference = a[i] - (b != nullptr ? b[i] : 0.0f);
    lanes[lane] += difference * difference;
  }
  double sum = 0.0;
  for (float lane : lanes) sum += lane;
  return static_cast<float>(std::sqrt(sum));
}

float dot(const float* a, const float* b, int n) {
  float lanes[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  for (int lane = 0; i < n; ++i, ++lane) lanes[lane] += a[i] * b[i];
  float sum = 0.0f;
  for (float lane : lanes) sum += lane;
  return sum;
}

void add(const float* x, int n, double* sum) {
  for (int i = 0; i < n; ++i) sum[i] += static_cast<double>(x[i]);
}

}  // namespace

bool Calibration::begin(const SyncInput& in, uint64_t mask) {
  groups_ = model_->layers[in.layer].groups(Part::Mlp);
  first_ = in.positions[0] == 0 ? 1 : 0;
  if (in.part != Part::Mlp || __builtin_popcountll(mask) != groups_ || in.rows == first_) return false;
  outputs_.resize(size_t(in.rows - first_) * groups_ * model_->spec.d);
  return true;
}

void Calibration::output(int i, int t, int first, const float* values, int n) {
  if (t < first_) return;
  float* out = outputs_.data() + (size_t(t - first_) * groups_ + i) * model_->spec.d + first;
  std::memcpy(out, values, n * sizeof(float));
}

void Calibration::end(const SyncInput& in, Threads& threads) {
  const int d = model_->spec.d, rows = in.rows - first_;
  h_.resize(size_t(rows) * d);
  for (int t = 0; t < rows; ++t) {
    dequantize(model_->layers[in.layer].mlp_input, in.h + (t + first_) * in.h_stride, d, h_.data() + size_t(t) * d);
  }
  learn({in.layer, rows, d, groups_, h_.data(), outputs_.data()}, threads);
}

void MeanPass::learn(const Rows& r, Threads& threads) {
  const Layer& layer = layers_[r.layer];
  for (int t = 0; t < r.rows; ++t) add(r.h + size_t(t) * r.d, r.d, layer.inputs);
  threads.split(r.groups, [&](int begin, int end, int) {
    for (int g = begin; g < end; ++g) {
      for (int t = 0; t < r.rows; ++t) {
        const double norm = distance(r.output(t, g), nullptr, r.d);
        add(r.output(t, g), r.d, layer.outputs + size_t(g) * r.d);
        layer.squares[g] += norm * norm;
      }
    }
  });
}

void FitPass::learn(const Rows& r, Threads& threads) {
  const Layer& layer = layers_[r.layer];
  for (int t = 0; t < r.rows; ++t) {
    float* x = r.h + size_t(t) * r.d;
    for (int i = 0; i < r.d; ++i) x[i] -= layer.centre[i];
    add(x, r.d, layer.inputs);
  }
  targets_.resize(size_t(r.rows) * r.groups);
  threads.split(r.groups, [&](int begin, int end, int) {
    for (int g = begin; g < end; ++g) {
      for (int t = 0; t < r.rows; ++t) {
        const float from_mean = distance(r.output(t, g), layer.means + size_t(g) * r.d, r.d);
        const double y = std::log(static_cast<double>(from_mean) + static_cast<double>(*layer.floor));
        layer.distances[g] += static_cast<double>(from_mean);
        layer.targets[g] += y;
        layer.squares[g] += y * y;
        double* products = layer.products + size_t(g) * r.d;
        const float* x = r.h + size_t(t) * r.d;
        for (int i = 0; i < r.d; ++i) products[i] += y * static_cast<double>(x[i]);
      }
    }
  });
  // A row of the triangle is the shorter the later it comes: the first and the last one make a pair.
  const int blocks = (r.d + kGramRows - 1) / kGramRows;
  threads.split((blocks + 1) / 2, [&](int begin, int end, int) {
    for (int b = begin; b < end; ++b) {
      add_gram_rows(r.h, r.rows, r.d, b * kGramRows, layer.gram);
      const int other = blocks - 1 - b;
      if (other != b) add_gram_rows(r.h, r.rows, r.d, other * kGramRows, layer.gram);
    }
  });
}

void MeasurePass::learn(const Rows& r, Threads& threads) {
  const Layer& layer = layers_[r.layer];
  size_t& done = done_[r.layer];
  const int rows = static_cast<int>(std::min(size_t(r.rows), layer.tokens - done));
  threads.split(r.groups, [&](int begin, int end, int) {
    for (int g = begin; g < end; ++g) {
      const size_t at = size_t(g) * r.d;
      for (int t = 0; t < rows; ++t) {
        const size_t to = (done + t) * r.groups + g;
        layer.distances[to] = distance(r.output(t, g), layer.means + at, r.d);
        layer.scores[to] = dot(r.h + size_t(t) * r.d, layer.weights + at, r.d) + layer.bias[g];
      }
    }
  });
  done += rows;
}

}  // namespace halo
