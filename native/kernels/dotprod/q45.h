// Q4_1, Q5_0 and Q5_1 panels: values stay unsigned; the 16 that those of Q5_0 have too much is in the sum's starting
// value.
#pragma once

#include "kernels/dotprod/dot.h"

namespace halo {
namespace {
namespace dotprod {

// The nibbles of a half: q[j] has values 4j .. 4j + 3 of every row.
inline void split_32(const uint8_t* w, int8x16_t* q) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const uint8x16_t both = neon::load(w + 16 * j);
    q[j] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
    q[j + 4] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
  }
}

template <int J>
void add_fifth(uint8x16_t bits, int8x16_t* q) {
  q[J] = vorrq_s8(q[J], neon::fifth<J>(bits));
  if constexpr (J < 7) add_fifth<J + 1>(bits, q);
}

template <typename Layout>
struct Q45 {
  using Panel = Layout;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes;
  static constexpr int kTile = 8;

  template <int T>
  static int32x4_t products(const int8x16_t* q, const Activations32& x) {
    if constexpr (!Panel::kHasMin) return dot32(vdupq_n_s32(2 * x.block->minus_8), q, x.low, x.high);
    return T > 1 ? dot32_from_memory(q, x.low, x.high) : dot32(q, x.low, x.high);
  }

  template <int T, int Half, bool Advance>
  static void half(const uint8_t* w, const uint8_t** xs, float32x4_t* sums) {
    const float32x4_t scale = neon::scales_of(w + Panel::kScales, Half);
    float32x4_t min;
    if constexpr (Panel::kHasMin) min = neon::scales_of(w + Panel::kMins, Half);
    int8x16_t q[8];
    split_32(w + Panel::kWeights + 64 * Half, q);
    if constexpr (Panel::kHasFifth) add_fifth<0>(neon::load(w + Panel::kHigh + 16 * Half), q);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Activations32 x = take_block<(T > 1)>(xs + t, Advance);
      sums[t] = vfmaq_f32(sums[t], vcvtq_f32_s32(products<T>(q, x)), vmulq_n_f32(scale, x.scale));
      if constexpr (Panel::kHasMin) sums[t] = vfmaq_n_f32(sums[t], min, x.block->scaled_sum);
    }
  }
};

constexpr Product kQ4_1 = neon::panel_product<Q45<neon::PanelQ45<4, BlockQ4_1, true, false>>>();
constexpr Product kQ5_0 = neon::panel_product<Q45<neon::PanelQ45<4, BlockQ5_0, false, true>>>();
constexpr Product kQ5_1 = neon::panel_product<Q45<neon::PanelQ45<4, BlockQ5_1, true, true>>>();

}  // namespace dotprod
}  // namespace
}  // namespace halo
