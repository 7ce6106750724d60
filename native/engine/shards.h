// Which groups each of several devices holds, where a device does not hold all: even shares, alike for everybody who
// knows the model and the numbers.
#pragma once

#include <vector>

#include "engine/residency.h"

namespace halo {

// Every group, one entry a layer.
std::vector<LayerMasks> all_masks(const Model& model);

// Shard `index` of `of`, 0 <= index < of: each group is in exactly one of them, a layer's as evenly as they divide, and
// what is left over goes round from layer to layer.
std::vector<LayerMasks> shard_masks(const Model& model, int index, int of);

// The first groups of each layer: `share` (0 to 1) of them over all layers.
std::vector<LayerMasks> share_masks(const Model& model, double share);

}  // namespace halo
