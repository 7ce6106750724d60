// F32, F16 and BF16 rows as they lie in the file, 16 columns at a time. Each (row, activation row) has one vector
// of sums, added across lanes at the end.
#pragma once

#include "kernels/avx512/vector.h"
#include "kernels/kernels.h"
#include "kernels/packing.h"

namespace halo {
namespace {
namespace avx512 {

// How 16 weights become floats; `load_pair` reads 32, `load_half` 8. For pairs a whole cache line is loaded at once
// where that holds 32: loads are what limits the products of prompts.
struct F32 {
  static constexpr size_t kBytes = 4;
  static __m512 load(const uint8_t* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
  static void load_pair(const uint8_t* p, __m512* v) {
    v[0] = _mm512_loadu_ps(p);
    v[1] = _mm512_loadu_ps(p + 64);
  }
  static __m256 load_half(const uint8_t* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static __m256 load_half(const uint8_t* p, __mmask8 m) { return _mm256_maskz_loadu_ps(m, p); }
};

// Keeps the compiler from loading parts of a value again where they are used.
inline __m512i loaded_once(__m512i v) {
  __asm__("" : "+v"(v));
  return v;
}

inline __m512 loaded_once(__m512 v) {
  __asm__("" : "+v"(v));
  return v;
}

template <__m512 (*Widen)(__m256i), __m256 (*WidenHalf)(__m128i)>
struct Half {
  static constexpr size_t kBytes = 2;
  static __m512 load(const uint8_t* p, __mmask16 m) { return Widen(_mm256_maskz_loadu_epi16(m, p)); }
  static void load_pair(const uint8_t* p, __m512* v) {
    const __m512i both = loaded_once(_mm512_loadu_si512(p));
    v[0] = Widen(_mm512_castsi512_si256(both));
    v[1] = Widen(_mm512_extracti64x4_epi64(both, 1));
  }
  static __m256 load_half(const uint8_t* p) { return WidenHalf(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static __m256 load_half(const uint8_t* p, __mmask8 m) { return WidenHalf(_mm_maskz_loadu_epi16(m, p)); }
};

inline __m512 widen_f16(__m256i v) { return _mm512_cvtph_ps(v); }
inline __m512 widen_bf16(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }

inline __m256 widen_half_f16(__m128i v) { return _mm256_cvtph_ps(v); }
inline __m256 widen_half_bf16(__m128i v) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}

using F16 = Half<widen_f16, widen_half_f16>;
using BF16 = Half<widen_bf16, widen_half_bf16>;

constexpr int kChains = 4;              // vectors of sums of each (row, activation row): hides the adder's latency
constexpr int kColumns = 16 * kChains;  // that one step takes

// The products of R rows with T rows of activations, for prompts: one row of activations goes row by row below, which
// is the order that memory likes best (4096-byte rows read side by side compete for the same cache lines).
template <typename W, int R, int T>
void plain_tile(const uint8_t* w, size_t w_stride, const float* const* x, int n, float* y, size_t y_stride) {
  __m512 sums[R][T][kChains];
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) {
      for (int c = 0; c < kChains; ++c) sums[r][t][c] = _mm512_setzero_ps();
    }
  }
  int i = 0;
  for (; i + kColumns <= n; i += kColumns) {
#pragma GCC unroll 2
    for (int c = 0; c < kChains; c += 2) {
      __m512 xs[T][2];
      for (int t = 0; t < T; ++t) {
        xs[t][0] = _mm512_loadu_ps(x[t] + i + 16 * c);
        xs[t][1] = _mm512_loadu_ps(x[t] + i + 16 * c + 16);
        xs[t][0] = loaded_once(xs[t][0]);
        xs[t][1] = loaded_once(xs[t][1]);
      }
      for (int r = 0; r < R; ++r) {
        __m512 v[2];
        W::load_pair(w + r * w_stride + (i + 16 * c) * W::kBytes, v);
        for (int t = 0; t < T; ++t) {
          sums[r][t][c] = _mm512_fmadd_ps(v[0], xs[t][0], sums[r][t][c]);
          sums[r][t][c + 1] = _mm512_fmadd_ps(v[1], xs[t][1], sums[r][t][c + 1]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int c = 0; i < n && c < kChains; ++c) {
    const __mmask16 rest = first_lanes(n - i - 16 * c);
    for (int r = 0; r < R; ++r) {
      const __m512 v = W::load(w + r * w_stride + (i + 16 * c) * W::kBytes, rest);
      for (int t = 0; t < T; ++t) {
        sums[r][t][c] = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(rest, x[t] + i + 16 * c), sums[r][t][c]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int t = 0; t < T; ++t) {
      const __m512* s = sums[r][t];
      y[t * y_stride + r] = add_lanes(_mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3])));
    }
  }
}

// R rows with all rows of activations, as many as the tile takes at a time.
template <typename W, int R>
void plain_rows(const uint8_t* w, size_t w_stride, const uint8_t* x, size_t x_stride, int T, int n, float* y,
                size_t y_stride) {
  constexpr int kTile = 3;
  const float* xs[kTile];
  int t = 0;
  for (; t + kTile <= T; t += kTile) {
    for (int i = 0; i < kTile; ++i) xs[i] = reinterpret_cast<const float*>(x + (t + i) * x_stride);
    plain_tile<W, R, kTile>(w, w_stride, xs, n, y + t * y_stride, y_stride);
  }
  for (; t < T; ++t) {
    xs[0] = reinterpret_cast<const float*>(x + t * x_stride);
    plain_tile<W, R, 1>(w, w_stride, xs, n, y + t * y_stride, y_stride);
  }
}

// All rows of the slice with one row of activations, in halves of the vectors of plain_tile and the same order of sums:
// 256-bit loads measured 1.4 times the speed of 512-bit ones, from memory and from the cache (Zen 4).
template <typename W>
void one_activation_row(const Slice& w, const float* x, float* y) {
  const int n = w.columns;
  for (int r = w.row_begin; r < w.row_end; ++r, ++y) {
    const uint8_t* row = w.data + r * w.panel_bytes;
    __m256 s[2 * kChains];  // halves of the chains
    for (__m256& half : s) half = _mm256_setzero_ps();
    int i = 0;
    for (; i + kColumns <= n; i += kColumns) {
#pragma GCC unroll 8
      for (int c = 0; c < 2 * kChains; ++c) {
        s[c] = _mm256_fmadd_ps(W::load_half(row + (i + 8 * c) * W::kBytes), _mm256_loadu_ps(x + i + 8 * c), s[c]);
      }
    }
    if (i < n) {
#pragma GCC unroll 8
      for (int c = 0; c < 2 * kChains; ++c) {
        const int from = i + 8 * c;
        const auto rest = static_cast<__mmask8>(first_lanes(n - from));
        s[c] = _mm256_fmadd_ps(W::load_half(row + from * W::kBytes, rest), _mm256_maskz_loadu_ps(rest, x + from), s[c]);
      }
    }
    const __m256 low = _mm256_add_ps(_mm256_add_ps(s[0], s[2]), _mm256_add_ps(s[4], s[6]));
    const __m256 high = _mm256_add_ps(_mm256_add_ps(s[1], s[3]), _mm256_add_ps(s[5], s[7]));
    *y = add_lanes(low, high);
  }
}

template <typename W>
void plain_matmul(const Slice& w, const uint8_t* x, size_t x_stride, int T, float* y, size_t y_stride) {
  if (T == 1) return one_activation_row<W>(w, reinterpret_cast<const float*>(x), y);
  int r = w.row_begin;
  for (; r + 2 <= w.row_end; r += 2, y += 2) {
    plain_rows<W, 2>(w.data + r * w.panel_bytes, w.panel_bytes, x, x_stride, T, w.columns, y, y_stride);
  }
  if (r < w.row_end)
    plain_rows<W, 1>(w.data + r * w.panel_bytes, w.panel_bytes, x, x_stride, T, w.columns, y, y_stride);
}

constexpr Product kF32{1, F32::kBytes, copy_row<F32::kBytes>, plain_matmul<F32>};
constexpr Product kF16{1, F16::kBytes, copy_row<F16::kBytes>, plain_matmul<F16>};
constexpr Product kBF16{1, BF16::kBytes, copy_row<BF16::kBytes>, plain_matmul<BF16>};

}  // namespace avx512
}  // namespace
}  // namespace halo
