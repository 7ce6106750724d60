// Q4_K and Q5_K panels: integer sums over a block of 256, the runs weighted with their 6-bit scales.
#pragma once

#include "kernels/dotprod/dot.h"

namespace halo {
namespace {
namespace dotprod {

// The values of a pair of runs of the half whose nibbles are at w: low[j], values 4j .. 4j + 3 of every row.
inline void split_nibbles(const uint8_t* w, int8x16_t* low, int8x16_t* high) {
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    const uint8x16_t both = neon::load(w + 16 * j);
    low[j] = vreinterpretq_s8_u8(vandq_u8(both, vdupq_n_u8(15)));
    high[j] = vreinterpretq_s8_u8(vshrq_n_u8(both, 4));
  }
}

struct DecodeQ4 {
  using Panel = neon::PanelQ4_K<4>;
  template <int Pair, int Half>
  static void run(const uint8_t* w, int8x16_t* low, int8x16_t* high) {
    split_nibbles(w + Panel::nibbles(Pair) + 128 * Half, low, high);
  }
};

struct DecodeQ5 {
  using Panel = neon::PanelQ5_K<4>;
  template <int Pair, int Half>
  static void run(const uint8_t* w, int8x16_t* low, int8x16_t* high) {
    split_nibbles(w + Panel::nibbles(Pair) + 128 * Half, low, high);
    constexpr int kBit = 4 * (Pair % 2);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const uint8x16_t bits = neon::load(w + Panel::high(Pair) + 64 * Half + 16 * j);
      low[j] = vorrq_s8(low[j], neon::fifth<kBit>(bits));
      high[j] = vorrq_s8(high[j], neon::fifth<kBit + 1>(bits));
      low[j + 4] = vorrq_s8(low[j + 4], neon::fifth<kBit + 2>(bits));
      high[j + 4] = vorrq_s8(high[j + 4], neon::fifth<kBit + 3>(bits));
    }
  }
};

template <typename Decode>
struct Q45_K {
  using Panel = typename Decode::Panel;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes;
  static constexpr int kTile = 8;

  template <int T, int Half, int Pair>
  static void pair(const uint8_t* w, const uint8_t* const* xs, int32x4_t* total) {
    int8x16_t low[8], high[8];
    Decode::template run<Pair, Half>(w, low, high);
    const uint8_t* scales = w + Panel::kScales + 2 * kRows * Pair;
    const int32x4_t first = neon::half_of<Half>(neon::unsigned_scales(scales));
    const int32x4_t second = neon::half_of<Half>(neon::unsigned_scales(scales + kRows));
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const uint8_t* x = xs[t] + 64 * Pair;
      total[t] = vmlaq_s32(total[t], dot32(low, neon::load_signed(x), neon::load_signed(x + 16)), first);
      total[t] = vmlaq_s32(total[t], dot32(high, neon::load_signed(x + 32), neon::load_signed(x + 48)), second);
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
    neon::finish_k<Panel, T, Half>(w, xs, total, sums);
    if (Advance) neon::advance<T, sizeof(PreparedQ8K)>(xs);
  }
};

constexpr Product kQ4_K = neon::panel_product<Q45_K<DecodeQ4>>();
constexpr Product kQ5_K = neon::panel_product<Q45_K<DecodeQ5>>();

}  // namespace dotprod
}  // namespace
}  // namespace halo
