// F32, F16 and BF16 rows as they lie in the file, 16 columns at a time. Each (row, activation row) has one vector
// of sums, added across lanes at the end.
#pragma once

#include "kernels/avx512/vector.h"
#include "kernels/kernels.h"
#include "kernels/packing.h"

namespace halo {
namespace {
namespace avx512 {

// How 16 weights become floats; `load_pair` reads 32. A whole cache line is loaded at once where that holds 32: loads
// are what limits these products.
struct F32 {
  static constexpr size_t kBytes = 4;
  static __m512 load(const uint8_t* p, __mmask16 m) { return _mm512_maskz_loadu_ps(m, p); }
  static void load_pair(const uint8_t* p, __m512* v) {
    v[0] = _mm512_loadu_ps(p);
    v[1] = _mm512_loadu_ps(p + 64);
  }
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

template <__m512 (*Widen)(__m256i)>
struct Half {
  static constexpr size_t kBytes = 2;
  static __m512 load(const uint8_t* p, __mmask16 m) { return Widen(_mm256_maskz_loadu_epi16(m, p)); }
  static void load_pair(const uint8_t* p, __m512* v) {
    const __m512i both = loaded_once(_mm512_loadu_si512(p));
    v[0] = Widen(_mm512_castsi512_si256(both));
    v[1] = Widen(_mm512_extracti64x4_epi64(both, 1));
  }
};

inline __m512 widen_f16(__m256i v) { return _mm512_cvtph_ps(v); }
inline __m512 widen_bf16(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }

using F16 = Half<widen_f16>;
using BF16 = Half<widen_bf16>;

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

// All rows of the slice with one row of activations, in the order of plain_tile's sums. Written out: this loop waits
// for memory, and the fewer instructions it has the further the processor looks ahead.
template <typename W>
void one_activation_row(const Slice& w, const float* x, float* y) {
  const int n = w.columns;
  for (int r = w.row_begin; r < w.row_end; ++r, ++y) {
    const uint8_t* row = w.data + r * w.panel_bytes;
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    int i = 0;
    for (; i + kColumns <= n; i += kColumns) {
      __m512 v[4];
      W::load_pair(row + i * W::kBytes, v);
      s0 = _mm512_fmadd_ps(v[0], _mm512_loadu_ps(x + i), s0);
      s1 = _mm512_fmadd_ps(v[1], _mm512_loadu_ps(x + i + 16), s1);
      W::load_pair(row + (i + 32) * W::kBytes, v + 2);
      s2 = _mm512_fmadd_ps(v[2], _mm512_loadu_ps(x + i + 32), s2);
      s3 = _mm512_fmadd_ps(v[3], _mm512_loadu_ps(x + i + 48), s3);
    }
    if (i < n) {
      const auto add = [&](__m512 sum, int from) {
        const __mmask16 rest = first_lanes(n - from);
        return _mm512_fmadd_ps(W::load(row + from * W::kBytes, rest), _mm512_maskz_loadu_ps(rest, x + from), sum);
      };
      s0 = add(s0, i);
      s1 = add(s1, i + 16);
      s2 = add(s2, i + 32);
      s3 = add(s3, i + 48);
    }
    *y = add_lanes(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)));
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
