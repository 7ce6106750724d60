// Q3_K panels: values stay unsigned, and 8 times as large (0 .. 56): the 32 that they then have too much is in the
// starting value of each run of 16, and the scale takes the 8 off.
#pragma once

#include "kernels/avx512/panels.h"

namespace halo {
namespace {
namespace avx512 {

struct Q3_K {
  using Panel = PanelQ3_K<kRows>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8K);
  static constexpr int kTile = 8;

  // q[j] has 8 times values 4j .. 4j + 3 of the run.
  static void decode(const uint8_t* w, int run, __m512i* q) {
    const __m512i lower = _mm512_set1_epi8(0x18), upper = _mm512_set1_epi8(0x20);
    const int bit = run % 8, two = run % 4;
    for (int j = 0; j < 4; ++j) {
      const __m512i high = load(w + Panel::high(run) + 64 * j), low = load(w + Panel::low(run) + 64 * j);
      const __m512i high_moved = bit < 5 ? _mm512_slli_epi16(high, 5 - bit) : _mm512_srli_epi16(high, bit - 5);
      const __m512i low_moved = two < 2 ? _mm512_slli_epi16(low, 3 - 2 * two) : _mm512_srli_epi16(low, 2 * two - 3);
      const __m512i kept = _mm512_and_si512(low_moved, lower);
      q[j] = _mm512_ternarylogic_epi32(kept, high_moved, upper, 0xf8);  // kept | (high & upper)
    }
  }

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m512* sums) {
    __m512i total[T];
    for (int t = 0; t < T; ++t) total[t] = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (int run = 0; run < 16; ++run) {
      __m512i q[4];
      decode(w, run, q);
      const __m512i scale =
          _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + Panel::kScales + kRows * run)));
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const auto* x = reinterpret_cast<const PreparedQ8K*>(xs[t]);
        const __m512i a = dot16(_mm512_set1_epi32(x->minus_32[run]), q, x->values + 16 * run);
        total[t] = _mm512_add_epi32(total[t], _mm512_mullo_epi32(a, scale));
      }
    }
    const __m512 scale = _mm512_mul_ps(load_f16(w + Panel::kScale), _mm512_set1_ps(0.125f));
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const __m512 x_scale = _mm512_set1_ps(reinterpret_cast<const PreparedQ8K*>(xs[t])->scale);
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[t]), _mm512_mul_ps(scale, x_scale), sums[t]);
    }
  }
};

constexpr Product kQ3_K = panel_product<Q3_K>();

}  // namespace avx512
}  // namespace
}  // namespace halo
