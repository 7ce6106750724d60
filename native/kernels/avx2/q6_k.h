// Q6_K panels: values stay unsigned (0 .. 63) and packed as 4 + 2 bits; the 32 that they have too much is taken off
// by the activations' sums, run by run.
#pragma once

#include "kernels/avx2/panels.h"

namespace halo {
namespace {
namespace avx2 {

struct Q6_K {
  using Panel = PanelQ6_K<kRows>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8K);
  static constexpr int kTile = 4;

  // Run `run` (0 .. 3) of the quarter at w: q[j] has values 4j .. 4j + 3.
  static void decode(const uint8_t* w, int run, __m256i* q) {
    const __m256i low = _mm256_set1_epi8(15), upper = _mm256_set1_epi8(0x30);
    for (int j = 0; j < 4; ++j) {
      const __m256i high = load(w + 32 * j), both = load(w + 128 + 128 * (run % 2) + 32 * j);
      const __m256i nibble = _mm256_and_si256(run < 2 ? both : _mm256_srli_epi16(both, 4), low);
      const __m256i moved = run < 2 ? _mm256_slli_epi16(high, 4 - 2 * run) : _mm256_srli_epi16(high, 2 * run - 4);
      q[j] = _mm256_or_si256(nibble, _mm256_and_si256(moved, upper));
    }
  }

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m256* sums) {
    __m256i total[T];
    for (int t = 0; t < T; ++t) total[t] = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int run = 0; run < 16; ++run) {
      __m256i q[4];
      decode(w + Panel::kValuesAt + Panel::kQuarter * (run / 4), run % 4, q);
      const auto* scales = reinterpret_cast<const __m128i*>(w + Panel::kScales + kRows * run);
      const __m256i scale = _mm256_cvtepi8_epi32(_mm_loadl_epi64(scales)), both = twice(scale);
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const auto* x = reinterpret_cast<const PreparedQ8K*>(xs[t]);
        // 2 pairs of products of at most 63 * 128 stay within 16 bits.
        const __m256i first = _mm256_madd_epi16(dot<2>(q, x->values + 16 * run), both);
        const __m256i second = _mm256_madd_epi16(dot<2>(q + 2, x->values + 16 * run + 8), both);
        const __m256i off = _mm256_mullo_epi32(scale, _mm256_set1_epi32(x->minus_32[run]));
        total[t] = _mm256_add_epi32(_mm256_add_epi32(total[t], off), _mm256_add_epi32(first, second));
      }
    }
    const __m256 scale = load_f16(w + Panel::kScale);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const __m256 x_scale = _mm256_set1_ps(reinterpret_cast<const PreparedQ8K*>(xs[t])->scale);
      sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total[t]), _mm256_mul_ps(scale, x_scale), sums[t]);
    }
  }
};

constexpr Product kQ6_K = panel_product<Q6_K>();

}  // namespace avx2
}  // namespace
}  // namespace halo
