// Q4_0, Q4_1, Q5_0 and Q5_1 panels: values stay unsigned; what those without a min have too much is in the sum's
// starting value.
#pragma once

#include "kernels/avx512/panels.h"

namespace halo {
namespace {
namespace avx512 {

// Nibbles of 32 values: q[j] has values 4j .. 4j + 3 of each row.
inline void split_32(const uint8_t* nibbles, __m512i* q) {
  const __m512i low = _mm512_set1_epi8(15);
  for (int j = 0; j < 4; ++j) {
    const __m512i both = load(nibbles + 64 * j);
    q[j] = _mm512_and_si512(both, low);
    q[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
  }
}

// `Zero` is the unsigned value that stands for zero: 0, 8 or 16.
template <typename Layout, int Zero>
struct Q45 {
  using Panel = Layout;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8);
  static constexpr int kTile = 8;

  static void decode(const uint8_t* w, __m512i* q) {
    split_32(w + Panel::kWeights, q);
    if constexpr (Panel::kHasFifth) {
      const __m512i fifth = _mm512_set1_epi8(16), high = load(w + Panel::kHigh);
      for (int j = 0; j < 8; ++j) {
        const __m512i moved = j < 4 ? _mm512_slli_epi16(high, 4 - j) : _mm512_srli_epi16(high, j - 4);
        q[j] = _mm512_ternarylogic_epi32(q[j], moved, fifth, 0xf8);  // q | (moved & fifth)
      }
    }
  }

  static __m512i start(const PreparedQ8& x) {
    if constexpr (Zero == 0) return _mm512_setzero_si512();
    if constexpr (Zero == 8) return _mm512_set1_epi32(x.minus_8);
    return _mm512_slli_epi32(_mm512_set1_epi32(x.minus_8), 1);
  }

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m512* sums) {
    const __m512 scale = load_f16(w + Panel::kScales);
    __m512 min;
    if constexpr (Panel::kHasMin) min = load_f16(w + Panel::kMins);
    __m512i q[8];
    decode(w, q);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const auto* x = reinterpret_cast<const PreparedQ8*>(xs[t]);
      const __m512i a = dot32(start(*x), q, x->values);
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(scale, _mm512_set1_ps(x->scale)), sums[t]);
      if constexpr (Panel::kHasMin) sums[t] = _mm512_fmadd_ps(min, _mm512_set1_ps(x->scaled_sum), sums[t]);
    }
  }
};

constexpr Product kQ4_0 = panel_product<Q45<PanelQ45<kRows, BlockQ4_0, false, false>, 8>>();
constexpr Product kQ4_1 = panel_product<Q45<PanelQ45<kRows, BlockQ4_1, true, false>, 0>>();
constexpr Product kQ5_0 = panel_product<Q45<PanelQ45<kRows, BlockQ5_0, false, true>, 16>>();
constexpr Product kQ5_1 = panel_product<Q45<PanelQ45<kRows, BlockQ5_1, true, true>, 0>>();

}  // namespace avx512
}  // namespace
}  // namespace halo
