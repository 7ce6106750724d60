// Q3_K and Q6_K panels: integer sums over a block of 256, runs of 16 weighted with their signed scales. Values are
// signed: see PanelQ3_K and PanelQ6_K.
#pragma once

#include "kernels/neon/dot.h"
#include "kernels/neon/panels.h"

namespace halo {
namespace {
namespace neon {

struct DecodeQ3 {
  using Panel = PanelQ3_K<16>;
  template <int Half, int Quarter>
  static void run(const uint8_t* w, int8x16_t* q) {
    decode_q3<Panel, Quarter>(w + 64 * Half, q);
  }
};

struct DecodeQ6 {
  using Panel = PanelQ6_K<16>;
  template <int Half, int Quarter>
  static void run(const uint8_t* block, int8x16_t* q) {
    const uint8_t* w = block + Panel::kValuesAt + Panel::kQuarter * Quarter + Panel::kHalf * Half;
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const uint8x16_t a = load(w + 16 * r), b = load(w + 64 + 16 * r), c = load(w + 128 + 16 * r);
      q[r] = vshrq_n_s8(vreinterpretq_s8_u8(a), 2);
      q[4 + r] = vshrq_n_s8(vreinterpretq_s8_u8(b), 2);
      q[8 + r] = vshrq_n_s8(vreinterpretq_s8_u8(c), 2);
      const uint8x16_t last = vsliq_n_u8(c, vsliq_n_u8(b, a, 2), 2);
      q[12 + r] = vshrq_n_s8(vreinterpretq_s8_u8(vshlq_n_u8(last, 2)), 2);
    }
  }
};

// `Decode` makes the values of a half's quarter: q[4 run + r], run `run` of row r.
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
      const int32x4_t scale = half_of<Half>(signed_scales(scales));
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const int8x16_t x = load_signed(xs[t] + 64 * Quarter + 16 * run);
        int16x8_t rows[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) rows[r] = dot16(q[4 * run + r], x);
        // 8 products of at most 32 * 127 stay within 16 bits.
        total[t] = vmlaq_s32(total[t], vpaddlq_s16(two_lanes(rows)), scale);
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
    const float32x4_t scale = scales_of(w + Panel::kScale, Half);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const float x_scale = reinterpret_cast<const PreparedQ8K*>(xs[t])->scale;
      sums[t] = vfmaq_f32(sums[t], vcvtq_f32_s32(total[t]), vmulq_n_f32(scale, x_scale));
    }
    if (Advance) advance<T, sizeof(PreparedQ8K)>(xs);
  }
};

constexpr Product kQ3_K = panel_product<Q36_K<DecodeQ3>>();
constexpr Product kQ6_K = panel_product<Q36_K<DecodeQ6>>();

}  // namespace neon
}  // namespace
}  // namespace halo
