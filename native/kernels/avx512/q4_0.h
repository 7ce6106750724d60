// Q4_0 panels: nibbles stay unsigned, the 8 that they have too much is in the sum's starting value.
#pragma once

#include "kernels/avx512/panels.h"

namespace halo {
namespace {
namespace avx512 {

struct Q4_0 {
  using Panel = PanelQ4_0<kRows>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8);
  static constexpr int kTile = 8;

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m512* sums) {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512 scale = load_f16(w + Panel::kScales);
    __m512i q[8];  // q[j]: values 4j .. 4j + 3 of each row
    for (int j = 0; j < 4; ++j) {
      const __m512i both = load(w + Panel::kWeights + 64 * j);
      q[j] = _mm512_and_si512(both, low);
      q[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const auto* x = reinterpret_cast<const PreparedQ8*>(xs[t]);
      const __m512i a = dot32(_mm512_set1_epi32(x->minus_8), q, x->values);
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(scale, _mm512_set1_ps(x->scale)), sums[t]);
    }
  }
};

constexpr Product kQ4_0 = panel_product<Q4_0>();

}  // namespace avx512
}  // namespace
}  // namespace halo
