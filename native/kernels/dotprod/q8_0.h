// Q8_0 and IQ4_NL panels. IQ4_NL's values are looked up.
#pragma once

#include "kernels/dotprod/q45.h"

namespace halo {
namespace {
namespace dotprod {

struct DecodeQ8 {
  using Panel = neon::PanelQ8_0<4>;
  template <int Half>
  static void run(const uint8_t* w, int8x16_t* q) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) q[j] = neon::load_signed(w + Panel::kWeights + 128 * Half + 16 * j);
  }
};

struct DecodeIQ4 {
  using Panel = neon::PanelQ45<4, BlockIQ4_NL, false, false>;
  template <int Half>
  static void run(const uint8_t* w, int8x16_t* q) {
    const int8x16_t table = neon::load_signed(kIQ4Values);
    split_32(w + Panel::kWeights + 64 * Half, q);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) q[j] = vqtbl1q_s8(table, vreinterpretq_u8_s8(q[j]));
  }
};

// `Decode` makes the signed values of a half: q[j] has values 4j .. 4j + 3 of every row.
template <typename Decode>
struct Signed32 {
  using Panel = typename Decode::Panel;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes;
  static constexpr int kTile = 8;

  template <int T, int Half, bool Advance>
  static void half(const uint8_t* w, const uint8_t** xs, float32x4_t* sums) {
    const float32x4_t scale = neon::scales_of(w + Panel::kScales, Half);
    int8x16_t q[8];
    Decode::template run<Half>(w, q);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const Activations32 x = take_block<(T > 1)>(xs + t, Advance);
      const int32x4_t sum = T > 1 ? dot32_from_memory(q, x.low, x.high) : dot32(q, x.low, x.high);
      sums[t] = vfmaq_f32(sums[t], vcvtq_f32_s32(sum), vmulq_n_f32(scale, x.scale));
    }
  }
};

constexpr Product kQ8_0 = neon::panel_product<Signed32<DecodeQ8>>();
constexpr Product kIQ4_NL = neon::panel_product<Signed32<DecodeIQ4>>();

}  // namespace dotprod
}  // namespace
}  // namespace halo
