// Q4_K and Q5_K panels: integer sums over a block of 256, the runs weighted with their 6-bit scales; the mins are
// products of pairs of runs' mins with the runs' activation sums.
#pragma once

#include "kernels/avx512/panels.h"

namespace halo {
namespace {
namespace avx512 {

// `Layout` is the panel; `Decode` makes the unsigned values of run 2 * pair + half: q[j] has values 4j .. 4j + 3.
template <typename Layout, typename Decode>
struct Q45_K {
  using Panel = Layout;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8K);
  static constexpr int kTile = 8;

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m512* sums) {
    __m512i total[T];
    for (int t = 0; t < T; ++t) total[t] = _mm512_setzero_si512();
    const Decode decode(w);
#pragma GCC unroll 8
    for (int run = 0; run < 8; ++run) {
      __m512i q[8];
      decode.run(w, run, q);
      const __m512i scale =
          _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + Panel::kScales + kRows * run)));
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const int8_t* x = reinterpret_cast<const PreparedQ8K*>(xs[t])->values + 32 * run;
        const __m512i a = dot32(_mm512_setzero_si512(), q, x);
        total[t] = _mm512_add_epi32(total[t], _mm512_mullo_epi32(a, scale));
      }
    }
    finish<T>(w, xs, total, sums);
  }

  template <int T>
  static void finish(const uint8_t* w, const uint8_t* const* xs, const __m512i* total, __m512* sums) {
    __m512i mins[4];
    for (int pair = 0; pair < 4; ++pair) {
      const auto* p = reinterpret_cast<const __m256i*>(w + Panel::kMins + 2 * kRows * pair);
      mins[pair] = _mm512_cvtepu8_epi16(_mm256_loadu_si256(p));
    }
    const __m512 scale = load_f16(w + Panel::kScale), min = load_f16(w + Panel::kMin);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const auto* x = reinterpret_cast<const PreparedQ8K*>(xs[t]);
      __m512i below = _mm512_setzero_si512();
      for (int pair = 0; pair < 4; ++pair) {
        below = _mm512_dpwssd_epi32(below, mins[pair], broadcast4(x->sums + 2 * pair));
      }
      const __m512 x_scale = _mm512_set1_ps(x->scale);
      sums[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total[t]), _mm512_mul_ps(scale, x_scale), sums[t]);
      sums[t] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(below), _mm512_mul_ps(min, x_scale), sums[t]);
    }
  }
};

// The nibbles of a run: q[j] has values 4j .. 4j + 3.
inline void split_nibbles(const uint8_t* nibbles, int run, __m512i* q) {
  const __m512i low = _mm512_set1_epi8(15);
  for (int j = 0; j < 8; ++j) {
    const __m512i both = load(nibbles + 32 * kRows * (run / 2) + 4 * kRows * j);
    q[j] = _mm512_and_si512(run % 2 == 0 ? both : _mm512_srli_epi16(both, 4), low);
  }
}

struct DecodeQ4 {
  explicit DecodeQ4(const uint8_t*) {}
  void run(const uint8_t* w, int run, __m512i* q) const { split_nibbles(w + PanelQ4_K<kRows>::kNibbles, run, q); }
};

struct DecodeQ5 {
  __m512i high[8];  // the fifth bits of all runs
  explicit DecodeQ5(const uint8_t* w) {
    for (int j = 0; j < 8; ++j) high[j] = load(w + PanelQ5_K<kRows>::kHigh + 4 * kRows * j);
  }
  void run(const uint8_t* w, int run, __m512i* q) const {
    const __m512i fifth = _mm512_set1_epi8(16);
    split_nibbles(w + PanelQ5_K<kRows>::kNibbles, run, q);
    for (int j = 0; j < 8; ++j) {
      const __m512i moved = run < 4 ? _mm512_slli_epi16(high[j], 4 - run) : _mm512_srli_epi16(high[j], run - 4);
      q[j] = _mm512_ternarylogic_epi32(q[j], moved, fifth, 0xf8);  // q | (moved & fifth)
    }
  }
};

using Q4_K = Q45_K<PanelQ4_K<kRows>, DecodeQ4>;
using Q5_K = Q45_K<PanelQ5_K<kRows>, DecodeQ5>;

constexpr Product kQ4_K = panel_product<Q4_K>();
constexpr Product kQ5_K = panel_product<Q5_K>();

}  // namespace avx512
}  // namespace
}  // namespace halo
