#include "predictor/significance.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace halo {

namespace {

constexpr int kMaxGroups = 64;  // a layer's masks have so many bits
constexpr int kLanes = 16;      // sums that run beside each other: one after the other would wait for each addition

float dot(const float* __restrict a, const float* __restrict b, int n) {
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

}  // namespace

void SidecarTables::finish() {
  for (size_t l = 0; l < layers.size(); ++l) {
    Layer& layer = layers[l];
    const auto require = [&](bool ok, const std::string& what) {
      if (!ok) throw std::invalid_argument("the tables of layer " + std::to_string(l) + " have " + what);
    };
    require(layer.groups > 0 && layer.groups <= kMaxGroups && d > 0, "an impossible size");
    const size_t groups = static_cast<size_t>(layer.groups), values = groups * static_cast<size_t>(d);
    require(layer.mean.size() == values && layer.predictor.size() == values && layer.bias.size() == groups &&
                layer.significance.size() == groups,
            "sizes that do not fit each other");
    for (const std::vector<float>* table : {&layer.mean, &layer.predictor, &layer.bias, &layer.significance}) {
      require(std::all_of(table->begin(), table->end(), [](float v) { return std::isfinite(v); }),
              "values that are not finite");
    }
    layer.empty = 0;
    for (size_t g = 0; g < groups; ++g) {
      require(layer.significance[g] >= 0, "a negative significance");
      if (layer.significance[g] == 0) layer.empty |= uint64_t{1} << g;
    }
  }
}

void LinearSignificance::predict(int layer, const float* normed, float* scores) const {
  const SidecarTables::Layer& tables = tables_.layers[layer];
  for (int g = 0; g < tables.groups; ++g) {
    scores[g] = dot(tables.predictor.data() + size_t(g) * tables_.d, normed, tables_.d) + tables.bias[g];
  }
}

}  // namespace halo
