// Q4_K and Q5_K panels: integer sums over a block of 256, the runs weighted with their 6-bit scales.
#pragma once

#include "kernels/neon/dot.h"
#include "kernels/neon/panels.h"

namespace halo {
namespace {
namespace neon {

// The values of a pair of runs of the half whose nibbles are at w: low[2r + i], values 16i .. 16i + 15 of row r.
inline void split_nibbles(const uint8_t* w, int8x16_t* low, int8x16_t* high) {
#pragma GCC unroll 8
  for (int k = 0; k < 8; ++k) {
    const uint8x16_t both = load(w + 16 * (k % 2 * 4 + k / 2));
    low[k] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
    high[k] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
  }
}

struct DecodeQ4 {
  using Panel = PanelQ4_K<16>;
  template <int Pair, int Half>
  static void run(const uint8_t* w, int8x16_t* low, int8x16_t* high) {
    split_nibbles(w + Panel::nibbles(Pair) + 128 * Half, low, high);
  }
  // 16 products of at most 15 * 127 stay within 16 bits.
  static int32x4_t add(const int16x8_t* rows) { return vpaddlq_s16(two_lanes(rows)); }
};

struct DecodeQ5 {
  using Panel = PanelQ5_K<16>;
  template <int Pair, int Half>
  static void run(const uint8_t* w, int8x16_t* low, int8x16_t* high) {
    split_nibbles(w + Panel::nibbles(Pair) + 128 * Half, low, high);
    constexpr int kBit = 4 * (Pair % 2);
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      const uint8x16_t bits = load(w + Panel::high(Pair) + 64 * Half + 16 * r);
      low[2 * r] = vorrq_s8(low[2 * r], fifth<kBit>(bits));
      high[2 * r] = vorrq_s8(high[2 * r], fifth<kBit + 1>(bits));
      low[2 * r + 1] = vorrq_s8(low[2 * r + 1], fifth<kBit + 2>(bits));
      high[2 * r + 1] = vorrq_s8(high[2 * r + 1], fifth<kBit + 3>(bits));
    }
  }
  // 8 products of at most 31 * 127 stay within 16 bits.
  static int32x4_t add(const int16x8_t* rows) { return add_rows(rows); }
};

template <typename Decode>
struct Q45_K {
  using Panel = typename Decode::Panel;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes;
  static constexpr int kTile = 4;

  // total += the scaled sums of one run, whose values are q.
  static int32x4_t add_run(int32x4_t total, const int8x16_t* q, const uint8_t* x, int32x4_t scale) {
    const int8x16_t x0 = load_signed(x), x1 = load_signed(x + 16);
    int16x8_t rows[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) rows[r] = dot32(q[2 * r], q[2 * r + 1], x0, x1);
    return vmlaq_s32(total, Decode::add(rows), scale);
  }

  template <int T, int Half, int Pair>
  static void pair(const uint8_t* w, const uint8_t* const* xs, int32x4_t* total) {
    int8x16_t low[8], high[8];
    Decode::template run<Pair, Half>(w, low, high);
    const int32x4_t first = half_of<Half>(unsigned_scales(w + Panel::kScales + 2 * kRows * Pair));
    const int32x4_t second = half_of<Half>(unsigned_scales(w + Panel::kScales + 2 * kRows * Pair + kRows));
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      total[t] = add_run(total[t], low, xs[t] + 64 * Pair, first);
      total[t] = add_run(total[t], high, xs[t] + 64 * Pair + 32, second);
    }
  }

  template <int T, int Half, bool Advance>
  static void half(const uint8_t* w, const uint8_t** xs, float32x4_t* sums) {
    int32x4_t total[T];
    for (int t = 0; t < T; ++t) total[t] = vdupq_n_s32(0);
    pair<T, Half, 0>(w, xs, total);
    pair<T, Half, 1>(w, xs, total);
    pair<T, Half, 2>(w, xs, total);
    pair<T, Half, 3>(w, xs, total);
    finish_k<Panel, T, Half>(w, xs, total, sums);
    if (Advance) advance<T, sizeof(PreparedQ8K)>(xs);
  }
};

constexpr Product kQ4_K = panel_product<Q45_K<DecodeQ4>>();
constexpr Product kQ5_K = panel_product<Q45_K<DecodeQ5>>();

}  // namespace neon
}  // namespace
}  // namespace halo
