// Q4_0 panels: signed nibbles in the upper half of a byte, so that products are 16 times too large; the conversion to
// floats takes that off.
#pragma once

#include "kernels/dotprod/dot.h"

namespace halo {
namespace {
namespace dotprod {

struct Q4_0 {
  using Panel = neon::PanelQ45<4, BlockQ4_0, false, false, 0x88>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes;
  static constexpr int kTile = 8;

  template <int T, int Half, bool Advance>
  static void half(const uint8_t* w, const uint8_t** xs, float32x4_t* sums) {
    const float32x4_t scale = neon::scales_of(w + Panel::kScales, Half);
    int8x16_t q[8];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const uint8x16_t both = neon::load(w + Panel::kWeights + 64 * Half + 16 * j);
      q[j] = vreinterpretq_s8_u8(vshlq_n_u8(both, 4));
      q[j + 4] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(0xf0)));
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Activations32 x = take_block<(T > 1)>(xs + t, Advance);
      const int32x4_t sum = T > 1 ? dot32_from_memory(q, x.low, x.high) : dot32(q, x.low, x.high);
      sums[t] = vfmaq_f32(sums[t], vcvtq_n_f32_s32(sum, 4), vmulq_n_f32(scale, x.scale));
    }
  }
};

constexpr Product kQ4_0 = neon::panel_product<Q4_0>();

}  // namespace dotprod
}  // namespace
}  // namespace halo
