// Q8_0 panels: |weight| times the activation with the weight's sign, since one factor must be unsigned and 255 * 127
// twice would not fit 16 bits.
#pragma once

#include "kernels/avx2/panels.h"

namespace halo {
namespace {
namespace avx2 {

struct Q8_0 {
  using Panel = PanelQ8_0<kRows, 0>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8);
  static constexpr int kTile = 4;

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m256* sums) {
    const __m256 scale = load_f16(w + Panel::kScales);
    __m256i total[T];
    for (int t = 0; t < T; ++t) total[t] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      const __m256i q = load(w + Panel::kWeights + 32 * j), magnitude = _mm256_abs_epi8(q);
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const __m256i x = broadcast4(reinterpret_cast<const PreparedQ8*>(xs[t])->values + 4 * j);
        const __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(x, q));
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

constexpr Product kQ8_0 = panel_product<Q8_0>();

}  // namespace avx2
}  // namespace
}  // namespace halo
