// Q4_0 panels: nibbles stay unsigned, the 8 that they have too much is taken off by the activations' sum.
#pragma once

#include "kernels/avx2/panels.h"

namespace halo {
namespace {
namespace avx2 {

struct Q4_0 {
  using Panel = PanelQ4_0<kRows>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8);
  static constexpr int kTile = 4;

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m256* sums) {
    const __m256i low = _mm256_set1_epi8(15);
    const __m256 scale = load_f16(w + Panel::kScales);
    __m256i q[8];  // q[j]: values 4j .. 4j + 3 of each row
    for (int j = 0; j < 4; ++j) {
      const __m256i both = load(w + Panel::kWeights + 32 * j);
      q[j] = _mm256_and_si256(both, low);
      q[j + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    }
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const auto* x = reinterpret_cast<const PreparedQ8*>(xs[t]);
      // 8 pairs of products of at most 15 * 128 stay within 16 bits.
      const __m256i pairs = _mm256_madd_epi16(dot<8>(q, x->values), _mm256_set1_epi16(1));
      const __m256 sum = _mm256_cvtepi32_ps(_mm256_add_epi32(pairs, _mm256_set1_epi32(x->minus_8)));
      sums[t] = _mm256_fmadd_ps(sum, _mm256_mul_ps(scale, _mm256_set1_ps(x->scale)), sums[t]);
    }
  }
};

constexpr Product kQ4_0 = panel_product<Q4_0>();

}  // namespace avx2
}  // namespace
}  // namespace halo
