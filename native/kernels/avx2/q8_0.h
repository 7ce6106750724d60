// Q8_0 and IQ4_NL panels: |weight| times the activation with the weight's sign, since one factor must be unsigned and
// 255 * 127 twice would not fit 16 bits. A shuffle looks IQ4_NL's values up.
#pragma once

#include "kernels/avx2/q45.h"

namespace halo {
namespace {
namespace avx2 {

struct DecodeQ8 {
  using Panel = PanelQ8_0<kRows, 0>;
  static void run(const uint8_t* w, __m256i* q) {
    for (int j = 0; j < 8; ++j) q[j] = load(w + Panel::kWeights + 32 * j);
  }
};

struct DecodeIQ4 {
  using Panel = PanelQ45<kRows, BlockIQ4_NL, false, false>;
  static void run(const uint8_t* w, __m256i* q) {
    const __m256i table = _mm256_broadcastsi128_si256(load16(kIQ4Values));
    split_32(w + Panel::kWeights, q);
    for (int j = 0; j < 8; ++j) q[j] = _mm256_shuffle_epi8(table, q[j]);
  }
};

// `Decode` makes the signed values: q[j] has values 4j .. 4j + 3.
template <typename Decode>
struct Signed32 {
  using Panel = typename Decode::Panel;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8);
  static constexpr int kTile = 4;

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m256* sums) {
    const __m256 scale = load_f16(w + Panel::kScales);
    __m256i q[8], total[T];
    Decode::run(w, q);
    for (int t = 0; t < T; ++t) total[t] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const __m256i magnitude = _mm256_abs_epi8(q[j]);
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const __m256i x = broadcast4(reinterpret_cast<const PreparedQ8*>(xs[t])->values + 4 * j);
        const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, q[j]));
        total[t] = _mm256_add_epi32(total[t], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const __m256 x_scale = _mm256_set1_ps(reinterpret_cast<const PreparedQ8*>(xs[t])->scale);
      sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total[t]), _mm256_mul_ps(scale, x_scale), sums[t]);
    }
  }
};

constexpr Product kQ8_0 = panel_product<Signed32<DecodeQ8>>();
constexpr Product kIQ4_NL = panel_product<Signed32<DecodeIQ4>>();

}  // namespace avx2
}  // namespace
}  // namespace halo
