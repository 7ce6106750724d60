// Q3_K and Q6_K panels: integer sums over a block of 256, runs of 16 weighted with their signed scales. Q6_K's signed
// values are in the upper six bits of a byte, so that products are 4 times too large; the conversion to floats takes
// that off. See PanelQ3_K and PanelQ6_K.
#pragma once

#include "kernels/dotprod/dot.h"

namespace halo {
namespace {
namespace dotprod {

struct DecodeQ3 {
  using Panel = neon::PanelQ3_K<4>;
  template <int Half, int Quarter>
  static void run(const uint8_t* w, int8x16_t* q) {
    neon::decode_q3<Panel, Quarter>(w + 64 * Half, q);
  }
  static float32x4_t to_floats(int32x4_t total) { return vcvtq_f32_s32(total); }
};

struct DecodeQ6 {
  using Panel = neon::PanelQ6_K<4>;
  template <int Half, int Quarter>
  static void run(const uint8_t* block, int8x16_t* q) {
    const uint8_t* w = block + Panel::kValuesAt + Panel::kQuarter * Quarter + Panel::kHalf * Half;
    const uint8x16_t upper = vdupq_n_u8(0xfc);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const uint8x16_t a = neon::load(w + 16 * j), b = neon::load(w + 64 + 16 * j), c = neon::load(w + 128 + 16 * j);
      q[j] = vreinterpretq_s8_u8(vandq_u8(a, upper));
      q[4 + j] = vreinterpretq_s8_u8(vandq_u8(b, upper));
      q[8 + j] = vreinterpretq_s8_u8(vandq_u8(c, upper));
      q[12 + j] = vreinterpretq_s8_u8(vshlq_n_u8(vsliq_n_u8(c, vsliq_n_u8(b, a, 2), 2), 2));
    }
  }

  static float32x4_t to_floats(int32x4_t total) { return vcvtq_n_f32_s32(total, 2); }
};

// `Decode` makes the values of a half's quarter: q[4 run + j], values 4j .. 4j + 3 of run `run` of every row.
template <typename Decode>
struct Q36_K {
  using Panel = typename Decode::Panel;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes;
  static constexpr int kTile = 4;

  template <int T, int Half, int Quarter>
  static void quarter(const uint8_t* w, const uint8_t* const* xs, int32x4_t* total) {
    int8x16_t q[16];
    Decode::template run<Half, Quarter>(w, q);
#pragma GCC unroll 4
    for (int run = 0; run < 4; ++run) {
      const uint8_t* scales = w + Panel::kScales + kRows * (4 * Quarter + run);
      const int32x4_t scale = neon::half_of<Half>(neon::signed_scales(scales));
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const int8x16_t x = neon::load_signed(xs[t] + 64 * Quarter + 16 * run);
        total[t] = vmlaq_s32(total[t], dot16(vdupq_n_s32(0), q + 4 * run, x), scale);
      }
    }
  }

  template <int T, int Half, bool Advance>
  static void half(const uint8_t* w, const uint8_t** xs, float32x4_t* sums) {
    int32x4_t total[T];
    for (int t = 0; t < T; ++t) total[t] = vdupq_n_s32(0);
    quarter<T, Half, 0>(w, xs, total);
    quarter<T, Half, 1>(w, xs, total);
    quarter<T, Half, 2>(w, xs, total);
    quarter<T, Half, 3>(w, xs, total);
    const float32x4_t scale = neon::scales_of(w + Panel::kScale, Half);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const float x_scale = reinterpret_cast<const PreparedQ8K*>(xs[t])->scale;
      sums[t] = vfmaq_f32(sums[t], Decode::to_floats(total[t]), vmulq_n_f32(scale, x_scale));
    }
    if (Advance) neon::advance<T, sizeof(PreparedQ8K)>(xs);
  }
};

constexpr Product kQ3_K = neon::panel_product<Q36_K<DecodeQ3>>();
constexpr Product kQ6_K = neon::panel_product<Q36_K<DecodeQ6>>();

}  // namespace dotprod
}  // namespace
}  // namespace halo
