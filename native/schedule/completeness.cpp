// Two sets of rows a layer.
#include "schedule/completeness.h"

#include <algorithm>

namespace halo {

void Completeness::roll_back(int first) {
  for (Layer& layer : layers_) {
    layer.there.remove_from(first);
    layer.asked.remove_from(0);  // answers from before are not believed any more
  }
}

void Completeness::acknowledged(int layer, int first, int rows) {
  layers_[layer].there.add(first, rows);
  layers_[layer].asked.remove(first, rows);
}

double Completeness::share(int end) const {
  end = std::min(end, n_ctx_);
  if (end <= 0) return 1.0;
  double there = 0;
  for (const Layer& layer : layers_) there += layer.there.count(end);
  return there / (static_cast<double>(end) * static_cast<double>(layers_.size()));
}

std::optional<Completeness::Gap> Completeness::gap(int end, int most) const {
  end = std::min(end, n_ctx_);
  for (size_t l = 0; l < layers_.size(); ++l) {
    const auto known = [&](int row) { return layers_[l].there.has(row) || layers_[l].asked.has(row); };
    int first = layers_[l].there.prefix();
    while (first < end && known(first)) ++first;
    if (first >= end) continue;
    int rows = 1;
    while (rows < most && first + rows < end && !known(first + rows)) ++rows;
    return Gap{static_cast<int>(l), first, rows};
  }
  return {};
}

}  // namespace halo
