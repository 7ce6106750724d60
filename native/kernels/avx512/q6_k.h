// Q6_K panels: values stay unsigned (0 .. 63) and packed as 4 + 2 bits; the 32 that they have too much is in the
// starting value of each run of 16.
#pragma once

#include "kernels/avx512/panels.h"

namespace halo {
namespace {
namespace avx512 {

struct Q6_K {
  using Panel = PanelQ6_K<kRows>;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8K);
  static constexpr int kTile = 8;

  // Run `run` (0 .. 3) of the quarter at w: q[j] has values 4j .. 4j + 3.
  static void decode(const uint8_t* w, int run, __m512i* q) {
    const __m512i low = _mm512_set1_epi8(15), upper = _mm512_set1_epi8(0x30);
    for (int j = 0; j < 4; ++j) {
      const __m512i high = load(w + 64 * j), both = load(w + 256 + 256 * (run % 2) + 64 * j);
      const __m512i nibble = _mm512_and_si512(run < 2 ? both : _mm512_srli_epi16(both, 4), low);
      const __m512i moved = run < 2 ? _mm512_slli_epi16(high, 4 - 2 * run) : _mm512_srli_epi16(high, 2 * run - 4);
      q[j] = _mm512_ternarylogic_epi32(nibble, moved, upper, 0xf8);  // nibble | (moved & upper)
    }
  }

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m512* sums) {
    __m512i total[T];
    for (int t = 0; t < T; ++t) total[t] = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (int run = 0; run < 16; ++run) {
      __m512i q[4];
      decode(w + Panel::kValuesAt + Panel::kQuarter * (run / 4), run % 4, q);
      const __m512i scale =
          _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + Panel::kScales + kRows * run)));
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const auto* x = reinterpret_cast<const PreparedQ8K*>(xs[t]);
        const __m512i a = dot16(_mm512_set1_epi32(x->minus_32[run]), q, x->values + 16 * run);
        total[t] = _mm512_add_epi32(total[t], _mm512_mullo_epi32(a, scale));
      }
    }
    const __m512 scale = load_f16(w + Panel::kScale);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const __m512 x_scale = _mm512_set1_ps(reinterpret_cast<const PreparedQ8K*>(xs[t])->scale);
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[t]), _mm512_mul_ps(scale, x_scale), sums[t]);
    }
  }
};

constexpr Product kQ6_K = panel_product<Q6_K>();

}  // namespace avx512
}  // namespace
}  // namespace halo
