// Q3_K panels: values stay unsigned (0 .. 7); the 4 that they have too much is taken off by the activations' sums, run
// by run.
#pragma once

#include "kernels/avx2/panels.h"

namespace halo {
namespace {
namespace avx2 {

struct Q3_K {
  using Panel = PanelQ3_K<kRows>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8K);
  static constexpr int kTile = 4;

  // q[j] has values 4j .. 4j + 3 of the run.
  static void decode(const uint8_t* w, int run, __m256i* q) {
    const __m256i lower = _mm256_set1_epi8(3), upper = _mm256_set1_epi8(4);
    const int bit = run % 8;
    for (int j = 0; j < 4; ++j) {
      const __m256i high = load(w + Panel::high(run) + 32 * j), low = load(w + Panel::low(run) + 32 * j);
      const __m256i moved = bit < 2 ? _mm256_slli_epi16(high, 2 - bit) : _mm256_srli_epi16(high, bit - 2);
      const __m256i two = _mm256_and_si256(_mm256_srli_epi16(low, 2 * (run % 4)), lower);
      q[j] = _mm256_or_si256(two, _mm256_and_si256(moved, upper));
    }
  }

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m256* sums) {
    __m256i total[T];
    for (int t = 0; t < T; ++t) total[t] = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int run = 0; run < 16; ++run) {
      __m256i q[4];
      decode(w, run, q);
      const auto* scales = reinterpret_cast<const __m128i*>(w + Panel::kScales + kRows * run);
      const __m256i scale = twice(_mm256_cvtepi8_epi32(_mm_loadl_epi64(scales)));
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const auto* x = reinterpret_cast<const PreparedQ8K*>(xs[t]);
        // 4 pairs of products of at most 7 * 128, and in the lower half 4 times the sum of 16 values, stay within 16
        // bits.
        const __m256i off = _mm256_set1_epi32(x->minus_32[run] / 8 & 0xffff);
        const __m256i pairs = _mm256_add_epi16(dot<4>(q, x->values + 16 * run), off);
        total[t] = _mm256_add_epi32(total[t], _mm256_madd_epi16(pairs, scale));
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

constexpr Product kQ3_K = panel_product<Q3_K>();

}  // namespace avx2
}  // namespace
}  // namespace halo
