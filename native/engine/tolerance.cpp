#include "engine/tolerance.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "engine/groups.h"

namespace halo {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

Tolerance::Tolerance(const Model& model, SidecarTables tables) : tables_(std::move(tables)) {
  if (tables_.layers.size() != model.layers.size()) {
    throw std::invalid_argument("expected the tables of " + std::to_string(model.layers.size()) + " layers, not of " +
                                std::to_string(tables_.layers.size()));
  }
  if (tables_.d != model.spec.d) throw std::invalid_argument("the tables are for another width than the model's");
  tables_.finish();
  for (size_t l = 0; l < model.layers.size(); ++l) {
    if (tables_.layers[l].groups != model.layers[l].groups(Part::Mlp)) {
      throw std::invalid_argument("the tables are for another grid than the model's: layer " + std::to_string(l));
    }
  }
  significance_ = std::make_unique<LinearSignificance>(tables_);
  sum_.resize(tables_.d);
}

void Tolerance::set_quality(double share, bool planned) {
  if (!(share >= 0 && share <= 1)) throw std::invalid_argument("the share of tolerant groups must be from 0 to 1");
  share_ = share;
  planned_ = planned;
}

bool Tolerance::relaxes(int layer) const {
  return share_ > 0 && layer > 0 && layer + 1 < static_cast<int>(tables_.layers.size());
}

int Tolerance::quota(int layer) const {
  const SidecarTables::Layer& tables = tables_.layers[layer];
  return static_cast<int>(share_ * (tables.groups - __builtin_popcountll(tables.empty)) + 0.5);
}

uint64_t Tolerance::choose(int layer, const float* normed) {
  const uint64_t empty = this->empty(layer);
  const int groups = tables_.layers[layer].groups;
  significance_->predict(layer, normed, scores_.data());
  std::array<uint8_t, 64> order{};
  int count = 0;
  for (int g = 0; g < groups; ++g) {
    if (empty >> g & 1) {
      scores_[g] = -kInfinity;
    } else {
      if (std::isnan(scores_[g])) scores_[g] = kInfinity;  // nothing is known of it
      order[count++] = static_cast<uint8_t>(g);
    }
  }
  const int quota = this->quota(layer);
  std::sort(order.begin(), order.begin() + count,
            [&](int a, int b) { return std::pair(scores_[a], a) < std::pair(scores_[b], b); });
  uint64_t chosen = empty;
  for (int i = 0; i < quota; ++i) chosen |= uint64_t{1} << order[i];
  return chosen;
}

double Tolerance::weight(int layer, uint64_t mask) const {
  const SidecarTables::Layer& tables = tables_.layers[layer];
  double some = 0, all = 0;
  for (int g = 0; g < tables.groups; ++g) {
    const double square = static_cast<double>(tables.significance[g]) * tables.significance[g];
    all += square;
    if (mask >> g & 1) some += square;
  }
  return all > 0 ? some / all : 0;
}

const float* Tolerance::means(int layer, uint64_t mask) {
  std::fill(sum_.begin(), sum_.end(), 0.0f);
  for_each_group(mask, [&](int g) {
    const float* mean = tables_.layers[layer].mean.data() + size_t(g) * tables_.d;
    for (int i = 0; i < tables_.d; ++i) sum_[i] += mean[i];
  });
  return sum_.data();
}

}  // namespace halo
