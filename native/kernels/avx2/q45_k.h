// Q4_K and Q5_K panels: integer sums over a block of 256. Multiplying a run's 16-bit pair sums with its scale and
// adding the pair is one instruction; the mins are products of pairs of runs' mins with the runs' activation sums.
#pragma once

#include "kernels/avx2/panels.h"

namespace halo {
namespace {
namespace avx2 {

// The nibbles of a run: q[j] has values 4j .. 4j + 3.
inline void split_nibbles(const uint8_t* nibbles, int run, __m256i* q) {
  const __m256i low = _mm256_set1_epi8(15);
  for (int j = 0; j < 8; ++j) {
    const __m256i both = load(nibbles + 32 * kRows * (run / 2) + 4 * kRows * j);
    q[j] = _mm256_and_si256(run % 2 == 0 ? both : _mm256_srli_epi16(both, 4), low);
  }
}

struct DecodeQ4 {
  static constexpr int kGroups = 8;  // of 4 values whose pair sums together stay within 16 bits: 16 * 15 * 128
  static void run(const uint8_t* w, int run, __m256i* q) { split_nibbles(w + PanelQ4_K<kRows>::kNibbles, run, q); }
};

struct DecodeQ5 {
  static constexpr int kGroups = 4;  // 8 * 31 * 128
  static void run(const uint8_t* w, int run, __m256i* q) {
    const __m256i fifth = _mm256_set1_epi8(16);
    split_nibbles(w + PanelQ5_K<kRows>::kNibbles, run, q);
    for (int j = 0; j < 8; ++j) {
      const __m256i high = load(w + PanelQ5_K<kRows>::kHigh + 4 * kRows * j);
      const __m256i moved = run < 4 ? _mm256_slli_epi16(high, 4 - run) : _mm256_srli_epi16(high, run - 4);
      q[j] = _mm256_or_si256(q[j], _mm256_and_si256(moved, fifth));
    }
  }
};

template <typename Layout, typename Decode>
struct Q45_K {
  using Panel = Layout;
  static constexpr int kValues = Panel::kValues, kBytes = Panel::kBytes, kActivationBytes = sizeof(PreparedQ8K);
  static constexpr int kTile = 4;

  template <int T>
  static void block(const uint8_t* w, const uint8_t* const* xs, __m256* sums) {
    __m256i total[T];
    for (int t = 0; t < T; ++t) total[t] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int run = 0; run < 8; ++run) {
      __m256i q[8];
      Decode::run(w, run, q);
      const auto* scales = reinterpret_cast<const __m128i*>(w + Panel::kScales + kRows * run);
      const __m256i scale = twice(_mm256_cvtepu8_epi32(_mm_loadl_epi64(scales)));
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const int8_t* x = reinterpret_cast<const PreparedQ8K*>(xs[t])->values + 32 * run;
        for (int j = 0; j < 8; j += Decode::kGroups) {
          const __m256i pairs = dot<Decode::kGroups>(q + j, x + 4 * j);
          total[t] = _mm256_add_epi32(total[t], _mm256_madd_epi16(pairs, scale));
        }
      }
    }
    finish<T>(w, xs, total, sums);
  }

  template <int T>
  static void finish(const uint8_t* w, const uint8_t* const* xs, const __m256i* total, __m256* sums) {
    __m256i mins[4];
    for (int pair = 0; pair < 4; ++pair) {
      mins[pair] = _mm256_cvtepu8_epi16(load16(w + Panel::kMins + 2 * kRows * pair));
    }
    const __m256 scale = load_f16(w + Panel::kScale), min = load_f16(w + Panel::kMin);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const auto* x = reinterpret_cast<const PreparedQ8K*>(xs[t]);
      __m256i below = _mm256_setzero_si256();
      for (int pair = 0; pair < 4; ++pair) {
        below = _mm256_add_epi32(below, _mm256_madd_epi16(mins[pair], broadcast4(x->sums + 2 * pair)));
      }
      const __m256 x_scale = _mm256_set1_ps(x->scale);
      sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(total[t]), _mm256_mul_ps(scale, x_scale), sums[t]);
      sums[t] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(below), _mm256_mul_ps(min, x_scale), sums[t]);
    }
  }
};

using Q4_K = Q45_K<PanelQ4_K<kRows>, DecodeQ4>;
using Q5_K = Q45_K<PanelQ5_K<kRows>, DecodeQ5>;

constexpr Product kQ4_K = panel_product<Q4_K>();
constexpr Product kQ5_K = panel_product<Q5_K>();

}  // namespace avx2
}  // namespace
}  // namespace halo
