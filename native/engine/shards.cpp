// A layer's shards are runs of neighbouring groups: they are read from the file, and lie in memory, in one piece.
#include "engine/shards.h"

#include "engine/groups.h"

namespace halo {

namespace {

// Whoever has one group more of the attention part (they are larger) has one less of the MLP, mostly.
uint64_t shard(int layer, int groups, int index, int of) {
  uint64_t mask = 0;
  for (int g = 0; g < groups; ++g) {
    if ((g * of / groups + layer) % of == index) mask |= uint64_t{1} << g;
  }
  return mask;
}

uint64_t share_of(int layer, int groups, double share) {
  const auto before = [&](int layers) { return static_cast<int>(share * groups * layers + 1e-6); };
  return first_bits(before(layer + 1) - before(layer));
}

template <typename F>
std::vector<LayerMasks> of_each_layer(const Model& model, const F& mask) {
  std::vector<LayerMasks> masks;
  for (int l = 0; l < model.spec.layers; ++l) {
    masks.push_back(
        {mask(l, model.layers[l].groups(Part::Attention), 0), mask(l, model.layers[l].groups(Part::Mlp), 1)});
  }
  return masks;
}

}  // namespace

std::vector<LayerMasks> all_masks(const Model& model) {
  return of_each_layer(model, [](int, int groups, int) { return first_bits(groups); });
}

std::vector<LayerMasks> shard_masks(const Model& model, int index, int of) {
  return of_each_layer(model, [&](int l, int groups, int part) { return shard(l + part, groups, index, of); });
}

std::vector<LayerMasks> share_masks(const Model& model, double share) {
  return of_each_layer(model, [&](int l, int groups, int) { return share_of(l, groups, share); });
}

}  // namespace halo
