// Q4_0, Q4_1, Q5_0 and Q5_1 panels: values stay unsigned; what those without a min have too much is taken off by the
// activations' sum.
#pragma once

#include "kernels/avx2/panels.h"

namespace halo {
namespace {
namespace avx2 {

// Nibbles of 32 values: q[j] has values 4j .. 4j + 3 of each row.
inline void split_32(const uint8_t* nibbles, __m256i* q) {
  const __m256i low = _mm256_set1_epi8(15);
  for (int j = 0; j < 4; ++j) {
    const __m256i both = load(nibbles + 32 * j);
    q[j] = _mm256_and_si256(both, low);
    q[j + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
  }
}

// `Zero` is the unsigned value that stands for zero.
template <typename Layout, int Zero>
struct Q45 {
  using Panel = Layout;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8);
  static constexpr int kTile = 4;

  static void decode(const uint8_t* w, __m256i* q) {
    split_32(w + Panel::kWeights, q);
    if constexpr (Panel::kHasFifth) {
      const __m256i fifth = _mm256_set1_epi8(16), high = load(w + Panel::kHigh);
      for (int j = 0; j < 8; ++j) {
        const __m256i moved = j < 4 ? _mm256_slli_epi16(high, 4 - j) : _mm256_srli_epi16(high, j - 4);
        q[j] = _mm256_or_si256(q[j], _mm256_and_si256(moved, fifth));
      }
    }
  }

  // 8 pairs of products of at most 15 * 128 stay within 16 bits, 4 of at most 31 * 128.
  static __m256i products(const __m256i* q, const int8_t* x) {
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (!Panel::kHasFifth) return _mm256_madd_epi16(dot<8>(q, x), ones);
    return _mm256_add_epi32(_mm256_madd_epi16(dot<4>(q, x), ones), _mm256_madd_epi16(dot<4>(q + 4, x + 16), ones));
  }

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m256* sums) {
    const __m256 scale = load_f16(w + Panel::kScales);
    __m256 min;
    if constexpr (Panel::kHasMin) min = load_f16(w + Panel::kMins);
    __m256i q[8];
    decode(w, q);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const auto* x = reinterpret_cast<const PreparedQ8*>(xs[t]);
      __m256i sum = products(q, x->values);
      if constexpr (Zero != 0) sum = _mm256_add_epi32(sum, _mm256_set1_epi32(Zero / 8 * x->minus_8));
      sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scale, _mm256_set1_ps(x->scale)), sums[t]);
      if constexpr (Panel::kHasMin) sums[t] = _mm256_fmadd_ps(min, _mm256_set1_ps(x->scaled_sum), sums[t]);
    }
  }
};

constexpr Product kQ4_0 = panel_product<Q45<PanelQ45<kRows, BlockQ4_0, false, false>, 8>>();
constexpr Product kQ4_1 = panel_product<Q45<PanelQ45<kRows, BlockQ4_1, true, false>, 0>>();
constexpr Product kQ5_0 = panel_product<Q45<PanelQ45<kRows, BlockQ5_0, false, true>, 16>>();
constexpr Product kQ5_1 = panel_product<Q45<PanelQ45<kRows, BlockQ5_1, true, true>, 0>>();

}  // namespace avx2
}  // namespace
}  // namespace halo
