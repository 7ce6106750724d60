// IQ4_NL panels: a shuffle looks values up, plus 128, which makes them unsigned; what that adds is in the sum's
// starting value.
#pragma once

#include "kernels/avx512/q45.h"

namespace halo {
namespace {
namespace avx512 {

struct IQ4_NL {
  using Panel = PanelQ45<kRows, BlockIQ4_NL, false, false>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8);
  static constexpr int kTile = 8;

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m512* sums) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kIQ4Values));
    const __m512i table = _mm512_broadcast_i32x4(_mm_xor_si128(values, _mm_set1_epi8(-128)));
    const __m512 scale = load_f16(w + Panel::kScales);
    __m512i q[8];
    split_32(w + Panel::kWeights, q);
    for (__m512i& v : q) v = _mm512_shuffle_epi8(table, v);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const auto* x = reinterpret_cast<const PreparedQ8*>(xs[t]);
      const __m512i a = dot32(_mm512_set1_epi32(x->minus_128), q, x->values);
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(scale, _mm512_set1_ps(x->scale)), sums[t]);
    }
  }
};

constexpr Product kIQ4_NL = panel_product<IQ4_NL>();

}  // namespace avx512
}  // namespace
}  // namespace halo
