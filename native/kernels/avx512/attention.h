// Causal attention with a running maximum (Milakov and Gimelshein 2018), in blocks of positions that start at
// multiples of kPositions: a row's result does not depend on the rows it is computed with.
//
// A block of keys and values is read once for all queries, four of them at a time, while it lies in the first cache.
#pragma once

#include <immintrin.h>

#include "kernels/avx512/elementwise.h"
#include "kernels/scalar.h"

namespace halo {
namespace {
namespace avx512 {

constexpr int kPositions = 64;  // of one block
constexpr int kQueries = 4;     // computed together

// Queries are numbered row by row: query i is head i % heads of row i / heads.
struct Queries {
  const float* q[kQueries];
  float* out[kQueries];
  float* state[kQueries];  // running maximum, running sum of weights
  int n[kQueries];         // positions of this block that the query sees; 0: none, or no query
};

// The sums over lanes of four vectors, in a fixed order.
inline __m128 add_lanes(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512 abcd = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// scores[i][p] = q_i . k_p for the first n positions, p rounded up to a multiple of 4.
inline void scores_of(const Queries& g, const uint16_t* k, int head_dim, int n, float (*scores)[kPositions]) {
  for (int p = 0; p < n; p += 4) {
    const uint16_t* ks[4];
    for (int j = 0; j < 4; ++j) ks[j] = k + static_cast<size_t>(p + j < n ? p + j : n - 1) * head_dim;
    __m512 sums[kQueries][4];
    for (int i = 0; i < kQueries; ++i) {
      for (int j = 0; j < 4; ++j) sums[i][j] = _mm512_setzero_ps();
    }
    for (int c = 0; c < head_dim; c += 16) {
      const __mmask16 m = first_lanes(head_dim - c);
      __m512 keys[4];
      for (int j = 0; j < 4; ++j) keys[j] = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m, ks[j] + c));
#pragma GCC unroll 4
      for (int i = 0; i < kQueries; ++i) {
        const __m512 q = _mm512_maskz_loadu_ps(m, g.q[i] + c);
        for (int j = 0; j < 4; ++j) sums[i][j] = _mm512_fmadd_ps(q, keys[j], sums[i][j]);
      }
    }
    for (int i = 0; i < kQueries; ++i) {
      _mm_storeu_ps(scores[i] + p, add_lanes(sums[i][0], sums[i][1], sums[i][2], sums[i][3]));
    }
  }
}

// Turns n scores into weights relative to the new maximum; returns what older sums must be multiplied with.
inline float weigh(float* scores, int n, float scale, float* state) {
  __m512 v[kPositions / 16];
  __m512 largest = _mm512_set1_ps(state[0]);
  for (int i = 0; i * 16 < n; ++i) {
    v[i] = _mm512_mul_ps(_mm512_loadu_ps(scores + 16 * i), _mm512_set1_ps(scale));
    largest = _mm512_mask_max_ps(largest, first_lanes(n - 16 * i), largest, v[i]);
  }
  const float top = _mm512_reduce_max_ps(largest);
  __m512 total = _mm512_setzero_ps();
  for (int i = 0; i * 16 < n; ++i) {
    const __m512 w = exp(_mm512_sub_ps(v[i], _mm512_set1_ps(top)));
    total = _mm512_mask_add_ps(total, first_lanes(n - 16 * i), total, w);
    _mm512_storeu_ps(scores + 16 * i, w);
  }
  const float fade = exp_f32(state[0] - top);
  state[0] = top;
  state[1] = state[1] * fade + add_lanes(total);
  return fade;
}

// out_i = fade_i * out_i + sum of weights[i][p] * v_p, for columns c .. c + 63.
inline void add_values(const Queries& g, const uint16_t* v, int head_dim, int c, const float* fade,
                       const float (*weights)[kPositions]) {
  __mmask16 m[4];
  for (int j = 0; j < 4; ++j) m[j] = head_dim - c > 16 * j ? first_lanes(head_dim - c - 16 * j) : __mmask16{0};
  __m512 sums[kQueries][4];
  int common = kPositions;
  for (int i = 0; i < kQueries; ++i) {
    common = g.n[i] < common ? g.n[i] : common;
    for (int j = 0; j < 4; ++j) {
      sums[i][j] = _mm512_mul_ps(_mm512_set1_ps(fade[i]), _mm512_maskz_loadu_ps(m[j], g.out[i] + c + 16 * j));
    }
  }
  const uint16_t* row = v + c;
  for (int p = 0; p < common; ++p, row += head_dim) {
    __m512 values[4];
    for (int j = 0; j < 4; ++j) values[j] = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m[j], row + 16 * j));
#pragma GCC unroll 4
    for (int i = 0; i < kQueries; ++i) {
      const __m512 w = _mm512_set1_ps(weights[i][p]);
      for (int j = 0; j < 4; ++j) sums[i][j] = _mm512_fmadd_ps(w, values[j], sums[i][j]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kQueries; ++i) {  // a later row sees more positions than an earlier one
    for (int p = common; p < g.n[i]; ++p) {
      const uint16_t* own = v + static_cast<size_t>(p) * head_dim + c;
      for (int j = 0; j < 4; ++j) {
        const __m512 value = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(m[j], own + 16 * j));
        sums[i][j] = _mm512_fmadd_ps(_mm512_set1_ps(weights[i][p]), value, sums[i][j]);
      }
    }
  }
  for (int i = 0; i < kQueries; ++i) {
    for (int j = 0; j < 4; ++j) {
      if (g.n[i] > 0) _mm512_mask_storeu_ps(g.out[i] + c + 16 * j, m[j], sums[i][j]);
    }
  }
}

inline void attend(const Attention& a, const Queries& g, int begin) {
  float weights[kQueries][kPositions];
  float fade[kQueries];
  int most = 0;
  for (int n : g.n) most = n > most ? n : most;
  const size_t offset = static_cast<size_t>(begin) * a.head_dim;
  scores_of(g, a.k + offset, a.head_dim, most, weights);
  for (int i = 0; i < kQueries; ++i) fade[i] = g.n[i] > 0 ? weigh(weights[i], g.n[i], a.scale, g.state[i]) : 1.0f;
  for (int c = 0; c < a.head_dim; c += 64) add_values(g, a.v + offset, a.head_dim, c, fade, weights);
}

// Queries first .. first + 3, of which those at `count` and beyond repeat the last and see nothing.
inline Queries take_queries(const Attention& a, int first, int count, int begin) {
  Queries g;
  for (int i = 0; i < kQueries; ++i) {
    const bool real = first + i < count;
    const int query = real ? first + i : count - 1, t = query / a.heads;
    const size_t at = t * a.stride + static_cast<size_t>(query % a.heads) * a.head_dim;
    const int seen = a.first + t + 1 - begin;
    g.q[i] = a.q + at;
    g.out[i] = a.out + at;
    g.state[i] = a.scratch + 2 * static_cast<size_t>(query);
    g.n[i] = !real || seen < 0 ? 0 : (seen > kPositions ? kPositions : seen);
  }
  return g;
}

void attention(const Attention& a) {
  const int count = a.rows * a.heads;
  for (int i = 0; i < count; ++i) {
    float* out = a.out + i / a.heads * a.stride + static_cast<size_t>(i % a.heads) * a.head_dim;
    for (int c = 0; c < a.head_dim; ++c) out[c] = 0.0f;
    a.scratch[2 * i] = -__builtin_inff();
    a.scratch[2 * i + 1] = 0.0f;
  }
  for (int begin = 0; begin < a.first + a.rows; begin += kPositions) {
    for (int i = 0; i < count; i += kQueries) {
      const Queries g = take_queries(a, i, count, begin);
      if (g.n[0] > 0 || g.n[kQueries - 1] > 0) attend(a, g, begin);
    }
  }
  for (int i = 0; i < count; ++i) {
    float* out = a.out + i / a.heads * a.stride + static_cast<size_t>(i % a.heads) * a.head_dim;
    for (int c = 0; c < a.head_dim; ++c) out[c] /= a.scratch[2 * i + 1];
  }
}

}  // namespace avx512
}  // namespace
}  // namespace halo
