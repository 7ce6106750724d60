// Q4_0, Q4_1, Q5_0 and Q5_1 panels: values stay unsigned; what those without a min have too much is in the sum's
// starting value.
#pragma once

#include "kernels/neon/dot.h"
#include "kernels/neon/panels.h"

namespace halo {
namespace {
namespace neon {

// The nibbles of a half: values 0 .. 15 and 16 .. 31 of row r.
inline void split_rows(const uint8_t* w, int8x16_t* low, int8x16_t* high) {
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const uint8x16_t both = load(w + 16 * r);
    low[r] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
    high[r] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
  }
}

// 16 in every byte whose bit of `mask` is set.
inline int8x16_t fifth_where(uint8x16_t bits, uint8x16_t mask) {
  return vreinterpretq_s8_u8(vandq_u8(vtstq_u8(bits, mask), vdupq_n_u8(16)));
}

// `Zero` is the unsigned value that stands for zero: 0, 8 or 16.
template <typename Layout, int Zero>
struct Q45 {
  using Panel = Layout;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes;
  static constexpr int kTile = 4;

  template <int Half>
  static void decode(const uint8_t* w, int8x16_t* low, int8x16_t* high) {
    split_rows(w + Panel::kWeights + 64 * Half, low, high);
    if constexpr (Panel::kHasFifth) {
      // Value i of a row is bit i / 4 of byte i % 4 of its four.
      static constexpr uint8_t kBits[16] = {1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8};
      const uint8x16_t first = load(kBits), second = vshlq_n_u8(first, 4);
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        uint32_t four;
        std::memcpy(&four, w + Panel::kHigh + 16 * Half + 4 * r, 4);
        const uint8x16_t bits = vreinterpretq_u8_u32(vdupq_n_u32(four));
        low[r] = vorrq_s8(low[r], fifth_where(bits, first));
        high[r] = vorrq_s8(high[r], fifth_where(bits, second));
      }
    }
  }

  // What the sum starts with: 0, or minus_8 once or twice, which is in lane 1.
  static int32x4_t start(float32x4_t factors) {
    if constexpr (Zero == 0) return vdupq_n_s32(0);
    const int32x4_t minus_8 = vdupq_laneq_s32(vreinterpretq_s32_f32(factors), 1);
    if constexpr (Zero == 8) return minus_8;
    return vaddq_s32(minus_8, minus_8);
  }

  // 16 products of at most 15 * 127 stay within 16 bits, 8 of at most 31 * 127.
  static int32x4_t add(int32x4_t sum, const int16x8_t* rows) {
    if constexpr (Panel::kHasFifth) return vaddq_s32(sum, add_rows(rows));
    return vpadalq_s16(sum, two_lanes(rows));
  }

  template <int T, int Half, bool Advance>
  static void half(const uint8_t* w, const uint8_t** xs, float32x4_t* sums) {
    const float32x4_t scale = scales_of(w + Panel::kScales, Half);
    float32x4_t min;
    if constexpr (Panel::kHasMin) min = scales_of(w + Panel::kMins, Half);
    int8x16_t low[4], high[4];
    decode<Half>(w, low, high);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const int8x16_t x0 = load_signed(xs[t]), x1 = load_signed(xs[t] + 16);
      const float32x4_t factors = vreinterpretq_f32_u8(load(xs[t] + 32));  // scale, minus_8, minus_128, scaled_sum
      int16x8_t rows[4];
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) rows[r] = dot32(low[r], high[r], x0, x1);
      const int32x4_t sum = add(start(factors), rows);
      sums[t] = vfmaq_f32(sums[t], vcvtq_f32_s32(sum), vmulq_laneq_f32(scale, factors, 0));
      if constexpr (Panel::kHasMin) sums[t] = vfmaq_laneq_f32(sums[t], min, factors, 3);
    }
    if (Advance) advance<T, sizeof(PreparedQ8)>(xs);
  }
};

constexpr Product kQ4_0 = panel_product<Q45<PanelQ45<16, BlockQ4_0, false, false>, 8>>();
constexpr Product kQ4_1 = panel_product<Q45<PanelQ45<16, BlockQ4_1, true, false>, 0>>();
constexpr Product kQ5_0 = panel_product<Q45<PanelQ45<16, BlockQ5_0, false, true>, 16>>();
constexpr Product kQ5_1 = panel_product<Q45<PanelQ45<16, BlockQ5_1, true, true>, 0>>();

}  // namespace neon
}  // namespace
}  // namespace halo
