// Q4_0 panels: nibbles stay unsigned, the 8 that they have too much is in the sum's starting value.
#pragma once

#include "kernels/neon/dot.h"
#include "kernels/neon/panels.h"

namespace halo {
namespace {
namespace neon {

struct Q4_0 {
  using Panel = PanelQ4_0<16, 0>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes;
  static constexpr int kTile = 4;

  template <int T, int Half, bool Advance>
  static void half(const uint8_t* w, const uint8_t** xs, float32x4_t* sums) {
    const float32x4_t scale = scales_of(w + Panel::kScales, Half);
    int8x16_t low[4], high[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const uint8x16_t both = load(w + Panel::kWeights + 64 * Half + 16 * r);
      low[r] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
      high[r] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const int8x16_t x0 = load_signed(xs[t]), x1 = load_signed(xs[t] + 16);
      const float32x4_t factors = vreinterpretq_f32_u8(load(xs[t] + 32));  // scale, minus_8
      int16x8_t rows[4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) rows[r] = dot32(low[r], high[r], x0, x1);
      // 16 products of at most 15 * 127 stay within 16 bits.
      const int32x4_t sum = vpadalq_s16(vdupq_laneq_s32(vreinterpretq_s32_f32(factors), 1), two_lanes(rows));
      sums[t] = vfmaq_f32(sums[t], vcvtq_f32_s32(sum), vmulq_laneq_f32(scale, factors, 0));
    }
    if (Advance) advance<T, sizeof(PreparedQ8)>(xs);
  }
};

constexpr Product kQ4_0 = panel_product<Q4_0>();

}  // namespace neon
}  // namespace
}  // namespace halo
