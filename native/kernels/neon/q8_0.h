// Q8_0 and IQ4_NL panels: 2 products of at most 128 * 127 fit 16 bits. IQ4_NL's values are looked up.
#pragma once

#include "kernels/neon/dot.h"
#include "kernels/neon/panels.h"
#include "kernels/neon/q45.h"

namespace halo {
namespace {
namespace neon {

struct DecodeQ8 {
  using Panel = PanelQ8_0<16>;
  template <int Half>
  static void run(const uint8_t* w, int8x16_t* first, int8x16_t* second) {
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      first[r] = load_signed(w + Panel::kWeights + 128 * Half + 16 * r);
      second[r] = load_signed(w + Panel::kWeights + 128 * Half + 64 + 16 * r);
    }
  }
};

struct DecodeIQ4 {
  using Panel = PanelQ45<16, BlockIQ4_NL, false, false>;
  template <int Half>
  static void run(const uint8_t* w, int8x16_t* first, int8x16_t* second) {
    const int8x16_t table = load_signed(kIQ4Values);
    split_rows(w + Panel::kWeights + 64 * Half, first, second);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      first[r] = vqtbl1q_s8(table, vreinterpretq_u8_s8(first[r]));
      second[r] = vqtbl1q_s8(table, vreinterpretq_u8_s8(second[r]));
    }
  }
};

// `Decode` makes the signed values of a half: 0 .. 15 and 16 .. 31 of row r.
template <typename Decode>
struct Signed32 {
  using Panel = typename Decode::Panel;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes;
  static constexpr int kTile = 4;

  template <int T, int Half, bool Advance>
  static void half(const uint8_t* w, const uint8_t** xs, float32x4_t* sums) {
    const float32x4_t scale = scales_of(w + Panel::kScales, Half);
    int8x16_t first[4], second[4];
    Decode::template run<Half>(w, first, second);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const int8x16_t x0 = load_signed(xs[t]), x1 = load_signed(xs[t] + 16);
      int32x4_t rows[4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) rows[r] = vpadalq_s16(vpaddlq_s16(dot16(first[r], x0)), dot16(second[r], x1));
      const int32x4_t sum = vpaddq_s32(vpaddq_s32(rows[0], rows[1]), vpaddq_s32(rows[2], rows[3]));
      const float x_scale = reinterpret_cast<const PreparedQ8*>(xs[t])->scale;
      sums[t] = vfmaq_f32(sums[t], vcvtq_f32_s32(sum), vmulq_n_f32(scale, x_scale));
    }
    if (Advance) advance<T, sizeof(PreparedQ8)>(xs);
  }
};

constexpr Product kQ8_0 = panel_product<Signed32<DecodeQ8>>();
constexpr Product kIQ4_NL = panel_product<Signed32<DecodeIQ4>>();

}  // namespace neon
}  // namespace
}  // namespace halo
