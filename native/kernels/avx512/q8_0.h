// Q8_0 panels: weights plus 128 are unsigned; what that adds is in the sum's starting value.
#pragma once

#include "kernels/avx512/panels.h"

namespace halo {
namespace {
namespace avx512 {

struct Q8_0 {
  using Panel = PanelQ8_0<kRows, 0x80>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8);
  static constexpr int kTile = 8;

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m512* sums) {
    const __m512 scale = load_f16(w + Panel::kScales);
    __m512i q[8];
    for (int j = 0; j < 8; ++j) q[j] = load(w + Panel::kWeights + 64 * j);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const auto* x = reinterpret_cast<const PreparedQ8*>(xs[t]);
      const __m512i a = dot32(_mm512_set1_epi32(x->minus_128), q, x->values);
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(scale, _mm512_set1_ps(x->scale)), sums[t]);
    }
  }
};

constexpr Product kQ8_0 = panel_product<Q8_0>();

}  // namespace avx512
}  // namespace
}  // namespace halo
