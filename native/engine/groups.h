// Sets of a layer's groups, as masks: bit g is group g.
#pragma once

#include <cstdint>

#include "engine/model.h"

namespace halo {

// The set of the first n of at most 64 groups, or of whatever has bits.
inline constexpr uint64_t first_bits(int n) { return n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1; }

template <typename F>
void for_each_group(uint64_t mask, F f) {
  for (int g = 0; mask != 0; ++g, mask >>= 1) {
    if (mask & 1) f(g);
  }
}

// The groups of one layer, or those that a device holds of it.
struct LayerMasks {
  uint64_t attention = 0, mlp = 0;

  uint64_t of(Part part) const { return part == Part::Attention ? attention : mlp; }
};

}  // namespace halo
