// Q8_0 panels.
#pragma once

#include "kernels/dotprod/dot.h"

namespace halo {
namespace {
namespace dotprod {

struct Q8_0 {
  using Panel = neon::PanelQ8_0<4>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes;
  static constexpr int kTile = 8;

  template <int T, int Half, bool Advance>
  static void half(const uint8_t* w, const uint8_t** xs, float32x4_t* sums) {
    const float32x4_t scale = neon::scales_of(w + Panel::kScales, Half);
    int8x16_t q[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) q[j] = neon::load_signed(w + Panel::kWeights + 128 * Half + 16 * j);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Activations32 x = take_block<(T > 1)>(xs + t, Advance);
      sums[t] = vfmaq_f32(sums[t], vcvtq_f32_s32(dot32(q, x.low, x.high)), vmulq_n_f32(scale, x.scale));
    }
  }
};

constexpr Product kQ8_0 = neon::panel_product<Q8_0>();

}  // namespace dotprod
}  // namespace
}  // namespace halo
