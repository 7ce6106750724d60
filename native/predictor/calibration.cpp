#include "predictor/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstring>

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

// sum += the sum of the rows of x, which are `stride` apart: in float over these few rows, in double over all.
void add_rows(const float* x, int rows, size_t stride, int n, double* sum) {
  constexpr int kBlock = 256;
  for (int first = 0; first < n; first += kBlock) {
    const int columns = std::min(kBlock, n - first);
    float block[kBlock] = {};
    for (int t = 0; t < rows; ++t) {
      const float* row = x + t * stride + first;
      for (int i = 0; i < columns; ++i) block[i] += row[i];
    }
    for (int i = 0; i < columns; ++i) sum[first + i] += static_cast<double>(block[i]);
  }
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
  add_rows(r.h, r.rows, r.d, r.d, layer.inputs);
  threads.split(r.groups, [&](int begin, int end, int) {
    for (int g = begin; g < end; ++g) {
      add_rows(r.output(0, g), r.rows, size_t(r.groups) * r.d, r.d, layer.outputs + size_t(g) * r.d);
      for (int t = 0; t < r.rows; ++t) {
        const double norm = distance(r.output(t, g), nullptr, r.d);
        layer.squares[g] += norm * norm;
      }
    }
  });
}

void DistancePass::learn(const Rows& r, Threads& threads) {
  const Layer& layer = layers_[r.layer];
  const size_t done = done_[r.layer];
  const int rows = static_cast<int>(std::min(size_t(r.rows), tokens_ - done));
  std::memcpy(layer.inputs + done * r.d, r.h, size_t(rows) * r.d * sizeof(float));
  threads.split(r.groups, [&](int begin, int end, int) {
    for (int g = begin; g < end; ++g) {
      for (int t = 0; t < rows; ++t) {
        layer.distances[(done + t) * r.groups + g] = distance(r.output(t, g), layer.means + size_t(g) * r.d, r.d);
      }
    }
  });
  done_[r.layer] += rows;
}

size_t DistancePass::rewind() {
  const size_t tokens = *std::min_element(done_.begin(), done_.end());
  std::fill(done_.begin(), done_.end(), 0);
  return tokens;
}

}  // namespace halo
