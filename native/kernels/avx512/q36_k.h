// Q3_K and Q6_K panels: values stay unsigned; the 32 that they have too much (Q3_K's are 8 times as large, 0 .. 56) is
// in the starting value of each run of 16.
#pragma once

#include "kernels/avx512/panels.h"

namespace halo {
namespace {
namespace avx512 {

struct DecodeQ3 {
  using Panel = PanelQ3_K<kRows>;
  static constexpr float kTimes = 0.125f;  // of the scale: the values are 8 times too large

  static void run(const uint8_t* w, int of_block, __m512i* q) {
    const __m512i lower = _mm512_set1_epi8(0x18), upper = _mm512_set1_epi8(0x20);
    const int bit = of_block % 8, two = of_block % 4;
    for (int j = 0; j < 4; ++j) {
      const __m512i high = load(w + Panel::high(of_block) + 64 * j), low = load(w + Panel::low(of_block) + 64 * j);
      const __m512i high_moved = bit < 5 ? _mm512_slli_epi16(high, 5 - bit) : _mm512_srli_epi16(high, bit - 5);
      const __m512i low_moved = two < 2 ? _mm512_slli_epi16(low, 3 - 2 * two) : _mm512_srli_epi16(low, 2 * two - 3);
      const __m512i kept = _mm512_and_si512(low_moved, lower);
      q[j] = _mm512_ternarylogic_epi32(kept, high_moved, upper, 0xf8);  // kept | (high & upper)
    }
  }
};

struct DecodeQ6 {
  using Panel = PanelQ6_K<kRows>;
  static constexpr float kTimes = 1.0f;

  static void run(const uint8_t* block, int of_block, __m512i* q) {
    const uint8_t* w = block + Panel::kValuesAt + Panel::kQuarter * (of_block / 4);
    const int run = of_block % 4;
    const __m512i low = _mm512_set1_epi8(15), upper = _mm512_set1_epi8(0x30);
    for (int j = 0; j < 4; ++j) {
      const __m512i high = load(w + 64 * j), both = load(w + 256 + 256 * (run % 2) + 64 * j);
      const __m512i nibble = _mm512_and_si512(run < 2 ? both : _mm512_srli_epi16(both, 4), low);
      const __m512i moved = run < 2 ? _mm512_slli_epi16(high, 4 - 2 * run) : _mm512_srli_epi16(high, 2 * run - 4);
      q[j] = _mm512_ternarylogic_epi32(nibble, moved, upper, 0xf8);  // nibble | (moved & upper)
    }
  }
};

// `Decode` makes the values of a run: q[j] has values 4j .. 4j + 3 of each row.
template <typename Decode>
struct Q36_K {
  using Panel = typename Decode::Panel;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8K);
  static constexpr int kTile = 8;

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m512* sums) {
    __m512i total[T];
    for (int t = 0; t < T; ++t) total[t] = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (int run = 0; run < 16; ++run) {
      __m512i q[4];
      Decode::run(w, run, q);
      const __m512i scale =
          _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + Panel::kScales + kRows * run)));
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const auto* x = reinterpret_cast<const PreparedQ8K*>(xs[t]);
        const __m512i a = dot16(_mm512_set1_epi32(x->minus_32[run]), q, x->values + 16 * run);
        total[t] = _mm512_add_epi32(total[t], _mm512_mullo_epi32(a, scale));
      }
    }
    const __m512 scale = _mm512_mul_ps(load_f16(w + Panel::kScale), _mm512_set1_ps(Decode::kTimes));
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const __m512 x_scale = _mm512_set1_ps(reinterpret_cast<const PreparedQ8K*>(xs[t])->scale);
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[t]), _mm512_mul_ps(scale, x_scale), sums[t]);
    }
  }
};

constexpr Product kQ3_K = panel_product<Q36_K<DecodeQ3>>();
constexpr Product kQ6_K = panel_product<Q36_K<DecodeQ6>>();

}  // namespace avx512
}  // namespace
}  // namespace halo
